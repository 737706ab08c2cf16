"""The NumPy twin of the linear kernels: the same integers, the products in float64.

Weights come as the float32 [N, K] that the model file means.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from plait.core.window import NO_INTS, Floats, Ints

ACT_BLOCK = 16
FINE_BLOCK = 32
LARGEST_MULTIPLIER = 4095
REST_SCALE = np.float32(2.0**-7)
_LARGEST = np.finfo(np.float32).max
_SMALLEST = np.float32(2.0**-100)

Quantized = tuple[NDArray[np.int8], NDArray[np.uint16], Floats]


def quantize_rows(x: Floats, fine: Ints = NO_INTS) -> Quantized:
    """Float32 [M, K] -> values int8 [M, K + 32 F], multipliers uint16 (one per 16), scales float32 [M].

    With m the largest magnitude of a row (not-a-number and infinities count as the largest float) its scale is
    m / (127 * 4095); 0 where m < 2^-100. A multiplier times the scale times 127 is at least the largest
    magnitude of its 16 values.
    fine: int32 [F], ascending blocks of 32 columns; what rounding left of them is quantised again, with 1/128
    of the scale, and follows.
    """
    largest = _magnitudes(x).max(axis=-1)
    scales = np.where(
        largest < _SMALLEST, np.float32(0), largest / np.float32(127 * LARGEST_MULTIPLIER)
    )
    values, multipliers = _quantize(x, scales)
    if not len(fine):
        return values, multipliers, scales
    held = _held(values, multipliers, scales).reshape(len(x), -1, FINE_BLOCK)[:, fine]
    blocks = x.reshape(held.shape[0], -1, FINE_BLOCK)[:, fine].astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        rests = (blocks - held).astype(np.float32).reshape(len(x), -1)
    more = _quantize(rests, scales * REST_SCALE)
    return (
        np.concatenate([values, more[0]], axis=1),
        np.concatenate([multipliers, more[1]], axis=1),
        scales,
    )


def _magnitudes(x: Floats) -> Floats:
    return np.where(np.abs(x) <= _LARGEST, np.abs(x), _LARGEST)


def _quantize(x: Floats, scales: Floats) -> tuple[NDArray[np.int8], NDArray[np.uint16]]:
    """Rows with their scales: value = x / (multiplier * scale) rounded half to even, within [-127, 127]."""
    blocks, scale = x.reshape(len(x), -1, ACT_BLOCK), scales[:, None, None]
    one, zero = np.float32(1), np.float32(0)
    steps = np.where(scale == 0, zero, one / np.where(scale == 0, one, np.float32(127) * scale))
    with np.errstate(over="ignore"):
        ratios = np.ceil(_magnitudes(blocks).max(axis=-1, keepdims=True) * steps)
    multipliers = np.clip(ratios, 1, LARGEST_MULTIPLIER)
    step = np.where(scale == 0, one, multipliers * scale)
    inverse = np.where(scale == 0, zero, one / step)
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = blocks * inverse
    above = np.where(scaled >= -127, scaled, np.float32(-127))  # not-a-number too
    values = np.rint(np.minimum(above, np.float32(127))).astype(np.int8).reshape(x.shape)
    return values, multipliers[..., 0].astype(np.uint16)


def block_scales(multipliers: NDArray[np.uint16], scales: Floats) -> Floats:
    """The scale of each 16 values: float32 [M, blocks]."""
    return multipliers.astype(np.float32) * scales[:, None]


def _held(
    values: NDArray[np.int8], multipliers: NDArray[np.uint16], scales: Floats
) -> NDArray[np.float64]:
    steps = block_scales(multipliers, scales).astype(np.float64)
    return values.reshape(len(values), -1, ACT_BLOCK) * steps[..., None]


def dequantize_rows(
    values: NDArray[np.int8],
    multipliers: NDArray[np.uint16],
    scales: Floats,
    fine: Ints = NO_INTS,
) -> NDArray[np.float64]:
    """What quantised activations stand for: float64 [M, K]."""
    whole = _held(values, multipliers, scales).reshape(len(values), -1, FINE_BLOCK)
    blocks, rests = np.split(whole, [whole.shape[1] - len(fine)], axis=1)
    blocks[:, fine] += rests * REST_SCALE
    return blocks.reshape(len(values), -1)


def linear_int8(
    weights: Floats,
    x: Floats,
    bias: Floats | None = None,
    residual: Floats | None = None,
    fine: Ints = NO_INTS,
) -> Floats:
    """weights [N, K], x [M, K] -> [M, N], the activations quantised first."""
    coarse = dequantize_rows(*quantize_rows(x, fine), fine)
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
