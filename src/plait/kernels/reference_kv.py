"""The NumPy twin of how keys and values lie in pages; see kvcache.pool for the layouts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from plait.core.config import PAGE
from plait.core.window import Floats, Ints


def store_kv(data: NDArray[Any], layer: int, pages: Ints, start: int, k: Floats, v: Floats) -> None:
    """Writes keys and values [rows, kv_heads, d] of slots start, start + 1, ... into their pages.

    data: the pool's array. Values beyond float16 are clamped, as the kernel does, except in a float32 pool.
    """
    if data.dtype != np.float32:
        k, v = np.clip(k, -65504, 65504), np.clip(v, -65504, 65504)
    store = _store_int8 if data.dtype == np.int8 else _store_float
    for row in range(len(k)):
        slot = start + row
        store(data[pages[slot // PAGE], layer], slot % PAGE, k[row], v[row])


def load_kv(
    data: NDArray[Any], layer: int, pages: Ints, count: int, head_dim: int
) -> tuple[Floats, Floats]:
    """Keys and values of slots [0, count), float32 [count, kv_heads, d] each."""
    load = _load_int8 if data.dtype == np.int8 else _load_float
    held = [load(data[page, layer], head_dim) for page in pages[: -(-count // PAGE)]]
    keys, values = zip(*held, strict=True)
    return np.concatenate(keys)[:count], np.concatenate(values)[:count]


def _store_float(page: NDArray[Any], slot: int, k: Floats, v: Floats) -> None:
    head_dim = k.shape[-1]
    page[:, 0].reshape(-1, head_dim, PAGE)[:, :, slot] = k
    page[:, 1].reshape(-1, PAGE, head_dim)[:, slot] = v


def _load_float(page: NDArray[Any], head_dim: int) -> tuple[Floats, Floats]:
    k = page[:, 0].reshape(-1, head_dim, PAGE).transpose(2, 0, 1)
    v = page[:, 1].reshape(-1, PAGE, head_dim).transpose(1, 0, 2)
    return k.astype(np.float32), v.astype(np.float32)


def _store_int8(page: NDArray[np.int8], slot: int, k: Floats, v: Floats) -> None:
    heads, head_dim = k.shape
    keys, values, scales = _int8_parts(page, head_dim)
    whole, scales[:, 0, slot] = _quantize(_rotate(k))
    keys[:, :, slot] = whole.reshape(heads, -1, 2)
    values[:, slot // 2, :, slot % 2], scales[:, 1, slot] = _quantize(v)


def _load_int8(page: NDArray[np.int8], head_dim: int) -> tuple[Floats, Floats]:
    keys, values, scales = _int8_parts(page, head_dim)
    k = keys.transpose(2, 0, 1, 3).reshape(PAGE, -1, head_dim)
    v = values.transpose(1, 3, 0, 2).reshape(PAGE, -1, head_dim)
    rotated = _rotate(k * scales[:, 0].T[..., None])
    return rotated / np.float32(_order(head_dim)), v * scales[:, 1].T[..., None]


def _int8_parts(
    page: NDArray[np.int8], head_dim: int
) -> tuple[NDArray[np.int8], NDArray[np.int8], Floats]:
    """Views: K [kv_heads, d / 2, PAGE, 2], V [kv_heads, PAGE / 2, d, 2], scales [kv_heads, 2, PAGE]."""
    size = PAGE * head_dim
    keys = page[:, 0, :size].reshape(-1, head_dim // 2, PAGE, 2)
    values = page[:, 1, :size].reshape(-1, PAGE // 2, head_dim, 2)
    return keys, values, page[:, :, size:].view(np.float32)


def _order(head_dim: int) -> int:
    """Largest power of two that divides the head's columns."""
    return head_dim & -head_dim


def _rotate(x: Floats) -> Floats:
    """x [..., d] times a block diagonal Hadamard matrix of +1 and -1; twice gives x times the order."""
    distance = 1
    while distance < _order(x.shape[-1]):
        pairs = x.reshape(*x.shape[:-1], -1, 2, distance)
        a, b = pairs[..., 0, :], pairs[..., 1, :]
        x = np.stack([a + b, a - b], axis=-2).reshape(x.shape)
        distance *= 2
    return x


def _quantize(x: Floats) -> tuple[NDArray[np.int8], Floats]:
    """x [kv_heads, d] as integers in [-127, 127], and one scale per head."""
    largest = np.abs(x).max(axis=-1)
    inverse = np.zeros_like(largest)
    np.divide(np.float32(127), largest, out=inverse, where=largest > 0)
    return np.rint(x * inverse[:, None]).astype(np.int8), largest / np.float32(127)
