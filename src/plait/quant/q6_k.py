"""Q6_K: u8 ql[128] (low nibbles); u8 qh[64] (upper two bits); i8 sc[16]; f16 d.

Weight = d * scale * (q - 32), 16 sub-blocks of 16.
"""

from __future__ import annotations

import numpy as np

from plait.quant import base, bits, superblock
from plait.quant.base import Bytes, Floats

SUMMARY = "6-bit k-quant (6.6 bits per weight)"


class Format(base.Format):
    name = "q6_k"
    block_size = superblock.SIZE
    block_bytes = 210
    ggml_type = 14

    def unpack(self, blocks: Bytes) -> Floats:
        low = bits.unpack(blocks[:, :128], run=64, bits=4)
        high = bits.unpack(blocks[:, 128:192], run=32, bits=2)
        quants = (low | (high << np.uint8(4))).astype(np.float32) - np.float32(32)
        scales = blocks[:, 192:208].view(np.int8).astype(np.float32)
        return superblock.symmetric_weights(bits.half(blocks, 208), scales, quants)

    def pack(self, weights: Floats) -> Bytes:
        parts = superblock.symmetric(weights, sub_block=16, scale_half=128, quant_half=32)
        return np.hstack(
            [
                bits.pack(parts.quants & np.uint8(15), run=64, bits=4),
                bits.pack(parts.quants >> np.uint8(4), run=32, bits=2),
                parts.scales.view(np.uint8),
                parts.d,
            ]
        )
