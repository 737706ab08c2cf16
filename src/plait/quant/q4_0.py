"""Q4_0 blocks: f16 d; u8 qs[16]. Weight = d * (q - 8)."""

from __future__ import annotations

import numpy as np

from plait.quant import base, bits
from plait.quant.base import Bytes, Floats

SUMMARY = "4-bit, one scale per 32 weights (4.5 bits per weight)"


class Format(base.Format):
    name = "q4_0"
    block_size = 32
    block_bytes = 18
    ggml_type = 2

    def unpack(self, blocks: Bytes) -> Floats:
        quants = bits.unpack(blocks[:, 2:], run=16, bits=4).astype(np.float32) - np.float32(8)
        return bits.half(blocks, 0) * quants

    def pack(self, weights: Floats) -> Bytes:
        # The largest weight becomes -8, the end of the range that has one more step.
        scale = bits.to_half(bits.extreme(weights) / np.float32(-8))
        quants = bits.nearest(weights, bits.half(scale, 0), -8, 7) + np.float32(8)
        return np.hstack([scale, bits.pack(quants.astype(np.uint8), run=16, bits=4)])
