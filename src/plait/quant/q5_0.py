"""Q5_0 blocks: f16 d; u8 qh[4] (bit i: fifth bit of weight i); u8 qs[16]. Weight = d * (q - 16)."""

from __future__ import annotations

import numpy as np

from plait.quant import base, bits
from plait.quant.base import Bytes, Floats

SUMMARY = "5-bit, one scale per 32 weights (5.5 bits per weight)"


class Format(base.Format):
    name = "q5_0"
    block_size = 32
    block_bytes = 22
    ggml_type = 6

    def unpack(self, blocks: Bytes) -> Floats:
        quants = bits.unpack_five(blocks[:, 2:]).astype(np.float32) - np.float32(16)
        return bits.half(blocks, 0) * quants

    def pack(self, weights: Floats) -> Bytes:
        # The largest weight becomes -16, the end of the range that has one more step.
        scale = bits.to_half(bits.extreme(weights) / np.float32(-16))
        quants = bits.nearest(weights, bits.half(scale, 0), -16, 15) + np.float32(16)
        return np.hstack([scale, bits.pack_five(quants.astype(np.uint8))])
