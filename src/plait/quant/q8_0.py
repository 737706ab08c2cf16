"""Q8_0 blocks: f16 d; i8 qs[32]. Weight = d * q."""

from __future__ import annotations

import numpy as np

from plait.quant import base, bits
from plait.quant.base import Bytes, Floats

SUMMARY = "8-bit, one scale per 32 weights (8.5 bits per weight)"


class Format(base.Format):
    name = "q8_0"
    block_size = 32
    block_bytes = 34
    ggml_type = 8

    def unpack(self, blocks: Bytes) -> Floats:
        return bits.half(blocks, 0) * blocks[:, 2:].view(np.int8).astype(np.float32)

    def pack(self, weights: Floats) -> Bytes:
        scale = bits.to_half(np.abs(weights).max(axis=-1, keepdims=True) / np.float32(127))
        quants = bits.nearest(weights, bits.half(scale, 0), -127, 127)
        return np.hstack([scale, quants.astype(np.int8).view(np.uint8)])
