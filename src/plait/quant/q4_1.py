"""Q4_1 blocks: f16 d; f16 m; u8 qs[16]. Weight = d * q + m."""

from __future__ import annotations

import numpy as np

from plait.quant import base, bits
from plait.quant.base import Bytes, Floats

SUMMARY = "4-bit, scale and offset per 32 weights (5 bits per weight)"


class Format(base.Format):
    name = "q4_1"
    block_size = 32
    block_bytes = 20
    ggml_type = 3

    def unpack(self, blocks: Bytes) -> Floats:
        quants = bits.unpack(blocks[:, 4:], run=16, bits=4).astype(np.float32)
        return bits.half(blocks, 0) * quants + bits.half(blocks, 2)

    def pack(self, weights: Floats) -> Bytes:
        head, quants = bits.affine(weights, 15)
        return np.hstack([head, bits.pack(quants, run=16, bits=4)])
