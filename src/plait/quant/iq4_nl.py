"""IQ4_NL blocks: f16 d; u8 qs[16]. Weight = d * LEVELS[q]: 16 levels, denser around zero."""

from __future__ import annotations

import numpy as np

from plait.quant import base, bits
from plait.quant.base import Bytes, Floats

SUMMARY = "4-bit with unevenly spaced levels, one scale per 32 weights (4.5 bits per weight)"

LEVELS = np.array(
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], dtype=np.float32
)


class Format(base.Format):
    name = "iq4_nl"
    block_size = 32
    block_bytes = 18
    ggml_type = 20

    def unpack(self, blocks: Bytes) -> Floats:
        return bits.half(blocks, 0) * LEVELS[bits.unpack(blocks[:, 2:], run=16, bits=4)]

    def pack(self, weights: Floats) -> Bytes:
        scale = bits.to_half(bits.extreme(weights) / LEVELS[0])
        ratio = bits.ratio(weights, bits.half(scale, 0))
        between = (LEVELS[1:] + LEVELS[:-1]) / np.float32(2)
        quants = np.searchsorted(between, ratio).astype(np.uint8)
        return np.hstack([scale, bits.pack(quants, run=16, bits=4)])
