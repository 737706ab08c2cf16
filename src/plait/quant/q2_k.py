"""Q2_K: u8 sc[16] (low nibble scale, high nibble minimum); u8 qs[64]; f16 d; f16 dmin.

Weight = d * scale * q - dmin * minimum, 16 sub-blocks of 16.
"""

from __future__ import annotations

import numpy as np

from plait.quant import base, bits, superblock
from plait.quant.base import Bytes, Floats

SUMMARY = "2-bit k-quant (2.6 bits per weight)"


class Format(base.Format):
    name = "q2_k"
    block_size = superblock.SIZE
    block_bytes = 84
    ggml_type = 10

    def unpack(self, blocks: Bytes) -> Floats:
        packed = blocks[:, :16]
        return superblock.affine_weights(
            bits.half(blocks, 80),
            bits.half(blocks, 82),
            packed & np.uint8(0x0F),
            packed >> np.uint8(4),
            bits.unpack(blocks[:, 16:80], run=32, bits=2),
        )

    def pack(self, weights: Floats) -> Bytes:
        parts = superblock.affine(weights, sub_block=16, scale_max=15, quant_max=3)
        pairs = parts.scales | (parts.minima << np.uint8(4))
        return np.hstack([pairs, bits.pack(parts.quants, run=32, bits=2), parts.d, parts.dmin])
