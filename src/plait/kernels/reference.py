"""The NumPy twin of every op: plain, slow, the place where correctness is defined.

All arrays are float32 [rows, width] unless said otherwise.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from plait.core.window import Floats, Ints, PatternKind


def rmsnorm(x: Floats, weight: Floats, eps: float, groups: int = 1) -> Floats:
    """x / sqrt(mean(x^2) + eps) * weight over each of `groups` parts of a row (arXiv:1910.07467)."""
    parts = x.reshape(len(x), groups, -1).astype(np.float64)
    scale = 1.0 / np.sqrt((parts**2).mean(axis=-1, keepdims=True) + eps)
    return np.asarray(parts * scale * weight, np.float32).reshape(x.shape)


def layernorm(x: Floats, weight: Floats, bias: Floats | None, eps: float) -> Floats:
    """(x - mean) / sqrt(variance + eps) * weight + bias over a row (arXiv:1607.06450)."""
    wide = x.astype(np.float64)
    centred = wide - wide.mean(axis=-1, keepdims=True)
    normal = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + eps)
    return np.asarray(normal * weight + (0.0 if bias is None else bias), np.float32)


def gated(activation: str, gate: Floats, up: Floats) -> Floats:
    """activation(gate) * up for silu, gelu (erf) and gelu_tanh (arXiv:2002.05202)."""
    x = gate.astype(np.float64)
    with np.errstate(over="ignore"):
        if activation == "silu":
            y = x / (1.0 + np.exp(-x))
        elif activation == "gelu_tanh":
            y = 0.5 * x * (1.0 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
        else:
            assert activation == "gelu", activation
            y = 0.5 * x * (1.0 + np.vectorize(math.erf)(x / math.sqrt(2.0)))
    return (y * up).astype(np.float32)


def rotated(pairs: int, *, interleaved: bool) -> tuple[slice, slice]:
    """Of a head, the first columns of all pairs that `rope` turns, and the second ones."""
    if interleaved:
        return slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2)
    return slice(0, pairs), slice(pairs, 2 * pairs)


def rope(
    x: Floats, positions: Ints, inverse_frequencies: Floats, heads: int, *, interleaved: bool
) -> Floats:
    """Rotates the first 2 * len(inverse_frequencies) columns of each head (arXiv:2104.09864).

    Pairs are (2i, 2i + 1) when interleaved, else (i, i + number of pairs). The angle is rounded to float32.
    """
    pairs = len(inverse_frequencies)
    angle = (positions.astype(np.float32)[:, None] * inverse_frequencies).astype(np.float64)
    cosines, sines = np.cos(angle)[:, None, :], np.sin(angle)[:, None, :]
    parts = x.reshape(len(x), heads, -1).astype(np.float64)
    first, second = rotated(pairs, interleaved=interleaved)
    a, b = parts[..., first].copy(), parts[..., second].copy()
    parts[..., first] = a * cosines - b * sines
    parts[..., second] = a * sines + b * cosines
    return parts.astype(np.float32).reshape(x.shape)


def visible(
    kind: PatternKind,
    size: int,
    mask: NDArray[np.bool_] | None,
    start: int,
    positions: Ints,
    window: int,
) -> NDArray[np.bool_]:
    """Which slots each row of a window sees, bool [rows, reach]; see core.window.Pattern and Window.reach.

    positions: int32 [rows]. window: slots a row looks back over (its own included), 0 for all.
    """
    rows = len(positions)
    end = start + rows
    reach = max(end, size) if kind is PatternKind.FULL else end
    slots, own = np.arange(reach)[None, :], np.arange(start, end)[:, None]
    if kind is PatternKind.CAUSAL:
        limit = own + 1
    elif kind is PatternKind.BLOCK:
        limit = np.minimum(end, (own // size + 1) * size)
    elif kind is PatternKind.PREFIX:
        limit = np.minimum(end, np.maximum(size, own + 1))
    else:
        limit = np.full_like(own, reach)
    seen = slots < limit
    if kind is PatternKind.TREE:
        assert mask is not None
        seen[:, start:] &= mask
    if window:
        seen &= slots >= positions[:, None] - window + 1
    return np.asarray(seen, np.bool_)


def attention(q: Floats, k: Floats, v: Floats, seen: NDArray[np.bool_], scale: float) -> Floats:
    """softmax(q k^T scale) v for one window, in float64.

    q: [rows, heads, d]; k, v: [slots, kv_heads, d]; seen: bool [rows, slots]. Returns [rows, heads, d];
    query head h reads KV head h // (heads / kv_heads). A row that sees nothing gets zeros.
    """
    group = q.shape[1] // k.shape[1]
    keys = np.repeat(k, group, axis=1).astype(np.float64)
    values = np.repeat(v, group, axis=1).astype(np.float64)
    scores = np.einsum("rhd,shd->hrs", q.astype(np.float64), keys) * scale
    scores = np.where(seen[None], scores, -np.inf)
    largest = scores.max(axis=-1, keepdims=True)
    weights = np.exp(scores - np.where(np.isfinite(largest), largest, 0.0))
    total = weights.sum(axis=-1, keepdims=True)
    weights /= np.where(total > 0, total, 1.0)
    return np.asarray(np.einsum("hrs,shd->rhd", weights, values), np.float32)
