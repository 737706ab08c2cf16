"""The NumPy twin of the linear kernels: the same integers, the products in float64.

Weights come as the float32 [N, K] that the model file means.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from plait.core.window import Floats

ACT_BLOCK = 32
_LARGEST = np.finfo(np.float32).max
_SMALLEST = np.float32(2.0**-100)

Quantized = tuple[NDArray[np.int8], Floats, NDArray[np.int16]]


def quantize_rows(x: Floats) -> Quantized:
    """Float32 [M, K] -> values int8 [M, K], scales float32 [M, K / 32], sums int16 [M, K / 16].

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
    sums = values.reshape(len(x), -1, 16).sum(axis=-1, dtype=np.int16)
    return values, scales[..., 0], sums


def dequantize_rows(values: NDArray[np.int8], scales: Floats) -> NDArray[np.float64]:
    """What quantised activations stand for: float64 [M, K]."""
    return values.astype(np.float64) * np.repeat(scales.astype(np.float64), ACT_BLOCK, axis=-1)


def linear_int8(
    weights: Floats, x: Floats, bias: Floats | None = None, residual: Floats | None = None
) -> Floats:
    """weights [N, K], x [M, K] -> [M, N], the activations quantised first."""
    values, scales, _ = quantize_rows(x)
    return _finish(dequantize_rows(values, scales) @ weights.astype(np.float64).T, bias, residual)


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
