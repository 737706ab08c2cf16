"""Fields of a block: half-precision scales and small integers packed several to a byte.

All GGUF block formats pack small integers the same way, with one parameter: `run` consecutive bytes
hold, in their lowest bits, `run` consecutive integers, in the next bits the following `run`, etc.
"""

from __future__ import annotations

import numpy as np

from plait.core.errors import FormatError
from plait.quant.base import Bytes, Floats

HALF_MAX = float(np.finfo(np.float16).max)


def half(blocks: Bytes, at: int) -> Floats:
    """The f16 at byte `at` of every block: uint8 [n, bytes] -> float32 [n, 1]."""
    return blocks[:, at : at + 2].view("<f2").astype(np.float32)


def to_half(values: Floats) -> Bytes:
    """float32 [n, k] -> the bytes of their f16, uint8 [n, 2k]. FormatError beyond its range."""
    if values.size and float(np.abs(values).max()) > HALF_MAX:
        raise FormatError(
            f"weights beyond {HALF_MAX:.0f} do not fit formats with half-precision parts"
        )
    return values.astype("<f2").view(np.uint8)


def unpack(packed: Bytes, run: int, bits: int) -> Bytes:
    """uint8 [n, bytes] -> the integers of `bits` bits each, uint8 [n, bytes * 8 // bits]."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:, None]
    groups = packed.reshape(packed.shape[0], -1, 1, run)
    fields = (groups >> shifts) & np.uint8((1 << bits) - 1)
    return fields.reshape(packed.shape[0], -1)


def pack(integers: Bytes, run: int, bits: int) -> Bytes:
    """The inverse of `unpack`: integers < 2**bits, uint8 [n, k] -> uint8 [n, k * bits // 8]."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:, None]
    groups = integers.reshape(integers.shape[0], -1, 8 // bits, run)
    packed: Bytes = np.bitwise_or.reduce(groups << shifts, axis=2)
    return packed.reshape(integers.shape[0], -1)


def nearest(weights: Floats, step: Floats, low: int, high: int) -> Floats:
    """weights / step, rounded and clipped to [low, high]; 0 where step is 0."""
    return np.clip(np.rint(ratio(weights, step)), low, high)


def ratio(weights: Floats, step: Floats) -> Floats:
    """weights / step, and 0 where step is 0 (a block of zeros, or one too small for its scale)."""
    quotient: Floats = np.divide(weights, step, out=np.zeros_like(weights), where=step != 0)
    return quotient


def extreme(weights: Floats) -> Floats:
    """The weight of largest magnitude along the last axis, with its sign, kept as an axis of 1."""
    at = np.abs(weights).argmax(axis=-1, keepdims=True)
    return np.take_along_axis(weights, at, axis=-1)


def affine(weights: Floats, levels: int) -> tuple[Bytes, Bytes]:
    """Quantise each row to `low + step * q`, 0 <= q <= levels.

    float32 [n, k] -> (the f16 step and low as uint8 [n, 4], q as uint8 [n, k]).
    """
    low = weights.min(axis=-1, keepdims=True)
    high = weights.max(axis=-1, keepdims=True)
    step = high / np.float32(levels) - low / np.float32(levels)  # high - low could overflow
    head = np.hstack([to_half(step), to_half(low)])
    quants = nearest(weights - half(head, 2), half(head, 0), 0, levels)
    return head, quants.astype(np.uint8)


def unpack_five(packed: Bytes) -> Bytes:
    """Q5_0 and Q5_1: uint8 [n, 4 + 16], fifth bits then nibbles -> uint8 [n, 32] below 32."""
    high = unpack(packed[:, :4], run=1, bits=1)
    return unpack(packed[:, 4:], run=16, bits=4) | (high << np.uint8(4))


def pack_five(quants: Bytes) -> Bytes:
    """The inverse of `unpack_five`: uint8 [n, 32] below 32 -> uint8 [n, 20]."""
    high = pack(quants >> np.uint8(4), run=1, bits=1)
    return np.hstack([high, pack(quants & np.uint8(15), run=16, bits=4)])
