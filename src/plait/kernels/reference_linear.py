"""The NumPy twin of the linear kernels: the same integers, the products in float64.

Weights come as the float32 [N, K] that the model file means.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from plait.core.window import NO_INTS, Floats, Ints

ACT_BLOCK = 16
FINE_BLOCK = 32
_LARGEST = np.finfo(np.float32).max
_SMALLEST = np.float32(2.0**-100)

Quantized = tuple[NDArray[np.int8], Floats, NDArray[np.int16]]


def quantize_rows(x: Floats, fine: Ints = NO_INTS) -> Quantized:
    """Float32 [M, K] -> values int8 [M, K + 32 F], scales float32 and sums int16, one per 16.

    fine: int32 [F], ascending blocks of 32 columns; what rounding left of them is quantised again and
    follows.
    """
    values, scales, sums = _quantize(x)
    if not len(fine):
        return values, scales, sums
    held = dequantize_rows(values, scales).reshape(len(x), -1, FINE_BLOCK)[:, fine]
    blocks = x.reshape(held.shape[0], -1, FINE_BLOCK)[:, fine].astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        rests = _quantize((blocks - held).astype(np.float32).reshape(len(x), -1))
    return (
        np.concatenate([values, rests[0]], axis=1),
        np.concatenate([scales, rests[1]], axis=1),
        np.concatenate([sums, rests[2]], axis=1),
    )


def _quantize(x: Floats) -> Quantized:
    """A row's own blocks.

    With m the largest magnitude of a block (not-a-number and infinities count as the largest float):
    scale = m / 127, value = x * (127 / m) rounded half to even; zero where m < 2^-100.
    """
    blocks = x.reshape(len(x), -1, ACT_BLOCK)
    magnitudes = np.where(np.abs(blocks) <= _LARGEST, np.abs(blocks), _LARGEST)
    largest = magnitudes.max(axis=-1, keepdims=True)
    is_zero = largest < _SMALLEST
    divisor = np.where(is_zero, np.float32(1), largest)
    scales = np.where(is_zero, np.float32(0), largest / np.float32(127))
    inverse = np.where(is_zero, np.float32(0), np.float32(127) / divisor)
    with np.errstate(invalid="ignore"):
        scaled = blocks * inverse
        above = np.where(scaled >= -127, scaled, np.float32(-127))  # not-a-number too
    values = np.rint(np.minimum(above, np.float32(127))).astype(np.int8).reshape(x.shape)
    sums = values.reshape(len(x), -1, ACT_BLOCK).sum(axis=-1, dtype=np.int16)
    return values, scales[..., 0], sums


def dequantize_rows(
    values: NDArray[np.int8], scales: Floats, fine: Ints = NO_INTS
) -> NDArray[np.float64]:
    """What quantised activations stand for: float64 [M, K]."""
    whole = values.reshape(len(values), -1, ACT_BLOCK) * scales.astype(np.float64)[..., None]
    whole = whole.reshape(len(values), -1, FINE_BLOCK)
    blocks, rests = np.split(whole, [whole.shape[1] - len(fine)], axis=1)
    blocks[:, fine] += rests
    return blocks.reshape(len(values), -1)


def linear_int8(
    weights: Floats,
    x: Floats,
    bias: Floats | None = None,
    residual: Floats | None = None,
    fine: Ints = NO_INTS,
) -> Floats:
    """weights [N, K], x [M, K] -> [M, N], the activations quantised first."""
    values, scales, _ = quantize_rows(x, fine)
    coarse = dequantize_rows(values, scales, fine)
    return _finish(coarse @ weights.astype(np.float64).T, bias, residual)


def linear_f32(
    weights: Floats, x: Floats, bias: Floats | None = None, residual: Floats | None = None
) -> Floats:
    """weights [N, K], x [M, K] -> [M, N]."""
    return _finish(x.astype(np.float64) @ weights.astype(np.float64).T, bias, residual)


def _finish(y: NDArray[np.float64], bias: Floats | None, residual: Floats | None) -> Floats:
    if bias is not None:
        y = y + bias
    if residual is not None:
        y = y + residual
    return y.astype(np.float32)
