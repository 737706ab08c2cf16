"""Super-blocks of 256 weights, the common part of the k-quants.

A super-block is cut into sub-blocks with a small integer scale each; the integers share one f16
factor. Two kinds: affine (weight = d * scale * q - dmin * minimum, all integers unsigned) and
symmetric (weight = d * scale * q, scale and q signed).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from plait.quant import bits
from plait.quant.base import Bytes, Floats

SIZE = 256


@dataclass(frozen=True)
class Affine:
    """d, dmin: f16 as uint8 [n, 2]. scales, minima: uint8 [n, subs]. quants: uint8 [n, 256]."""

    d: Bytes
    dmin: Bytes
    scales: Bytes
    minima: Bytes
    quants: Bytes


@dataclass(frozen=True)
class Symmetric:
    """d: f16 as uint8 [n, 2]. scales: int8 [n, subs]. quants: uint8 [n, 256], offset to >= 0."""

    d: Bytes
    scales: np.ndarray[tuple[int, ...], np.dtype[np.int8]]
    quants: Bytes


def affine_weights(d: Floats, dmin: Floats, scales: Bytes, minima: Bytes, quants: Bytes) -> Floats:
    """d, dmin: float32 [n, 1]; the integers as in `Affine` -> float32 [n, 256]."""
    step = (d * scales.astype(np.float32))[:, :, None]
    offset = (dmin * minima.astype(np.float32))[:, :, None]
    groups = quants.reshape(*scales.shape, -1).astype(np.float32)
    return (step * groups - offset).reshape(-1, SIZE)


def symmetric_weights(d: Floats, scales: Floats, quants: Floats) -> Floats:
    """d: float32 [n, 1]; signed scales [n, subs], signed quants [n, 256] -> float32 [n, 256]."""
    step = (d * scales)[:, :, None]
    return (step * quants.reshape(*scales.shape, -1)).reshape(-1, SIZE)


def affine(weights: Floats, sub_block: int, scale_max: int, quant_max: int) -> Affine:
    """Quantise float32 [n, 256]; scales and minima <= scale_max, quants <= quant_max."""
    groups = weights.reshape(weights.shape[0], -1, sub_block)
    low = np.minimum(groups.min(axis=-1), np.float32(0))
    step = groups.max(axis=-1) / np.float32(quant_max) - low / np.float32(quant_max)
    d = bits.to_half(step.max(axis=-1, keepdims=True) / np.float32(scale_max))
    dmin = bits.to_half(-low.min(axis=-1, keepdims=True) / np.float32(scale_max))
    scales = bits.nearest(step, bits.half(d, 0), 0, scale_max)
    minima = bits.nearest(-low, bits.half(dmin, 0), 0, scale_max)
    stored_step = (bits.half(d, 0) * scales)[:, :, None]
    stored_offset = (bits.half(dmin, 0) * minima)[:, :, None]
    quants = bits.nearest(groups + stored_offset, stored_step, 0, quant_max).reshape(-1, SIZE)
    return Affine(
        d, dmin, scales.astype(np.uint8), minima.astype(np.uint8), quants.astype(np.uint8)
    )


def symmetric(weights: Floats, sub_block: int, scale_half: int, quant_half: int) -> Symmetric:
    """Quantise float32 [n, 256] in sub-blocks; signed scales and quants in [-half, half - 1]."""
    groups = weights.reshape(weights.shape[0], -1, sub_block)
    step = bits.extreme(groups)[:, :, 0] / np.float32(-quant_half)
    d = bits.to_half(bits.extreme(step) / np.float32(-scale_half))
    scales = bits.nearest(step, bits.half(d, 0), -scale_half, scale_half - 1)
    stored_step = (bits.half(d, 0) * scales)[:, :, None]
    quants = bits.nearest(groups, stored_step, -quant_half, quant_half - 1) + np.float32(quant_half)
    return Symmetric(d, scales.astype(np.int8), quants.reshape(-1, SIZE).astype(np.uint8))


def unpack_pairs(packed: Bytes) -> tuple[Bytes, Bytes]:
    """The 12 bytes of Q4_K and Q5_K -> eight 6-bit scales and minima, uint8 [n, 8] each.

    Bytes 0-3: scales 0-3 in the low six bits, two bits of scales 4-7 on top; bytes 4-7: the same
    for the minima; bytes 8-11: the low nibbles of scales 4-7 and, above them, of minima 4-7.
    """
    first, second, mixed = packed[:, 0:4], packed[:, 4:8], packed[:, 8:12]
    low_six, two = np.uint8(0x3F), np.uint8(2)
    scales = (mixed & np.uint8(0x0F)) | ((first >> two) & np.uint8(0x30))
    minima = (mixed >> np.uint8(4)) | ((second >> two) & np.uint8(0x30))
    return np.hstack([first & low_six, scales]), np.hstack([second & low_six, minima])


def pack_pairs(scales: Bytes, minima: Bytes) -> Bytes:
    """The inverse of `unpack_pairs`: uint8 [n, 8] twice, values below 64 -> uint8 [n, 12]."""
    top, two = np.uint8(0x30), np.uint8(2)
    first = scales[:, :4] | ((scales[:, 4:] & top) << two)
    second = minima[:, :4] | ((minima[:, 4:] & top) << two)
    mixed = (scales[:, 4:] & np.uint8(0x0F)) | ((minima[:, 4:] & np.uint8(0x0F)) << np.uint8(4))
    return np.hstack([first, second, mixed])
