"""Q3_K: u8 hmask[32] (third bits); u8 qs[64] (low two bits); u8 sc[12] (16 six-bit scales); f16 d.

Weight = d * (scale - 32) * (q - 4), 16 sub-blocks of 16. Scale bytes 0-7 hold the low nibbles of
scales 0-7 and, above them, of 8-15; bytes 8-11 hold the upper two bits, four scales to a byte.
"""

from __future__ import annotations

import numpy as np

from plait.quant import base, bits, superblock
from plait.quant.base import Bytes, Floats

SUMMARY = "3-bit k-quant (3.4 bits per weight)"


class Format(base.Format):
    name = "q3_k"
    block_size = superblock.SIZE
    block_bytes = 110
    ggml_type = 11

    def unpack(self, blocks: Bytes) -> Floats:
        low = bits.unpack(blocks[:, 32:96], run=32, bits=2)
        high = bits.unpack(blocks[:, :32], run=32, bits=1)
        quants = (low | (high << np.uint8(2))).astype(np.float32) - np.float32(4)
        scale_low = bits.unpack(blocks[:, 96:104], run=8, bits=4)
        scale_high = bits.unpack(blocks[:, 104:108], run=4, bits=2)
        scales = (scale_low | (scale_high << np.uint8(4))).astype(np.float32) - np.float32(32)
        return superblock.symmetric_weights(bits.half(blocks, 108), scales, quants)

    def pack(self, weights: Floats) -> Bytes:
        parts = superblock.symmetric(weights, sub_block=16, scale_half=32, quant_half=4)
        scales = (parts.scales + np.int8(32)).view(np.uint8)
        return np.hstack(
            [
                bits.pack(parts.quants >> np.uint8(2), run=32, bits=1),
                bits.pack(parts.quants & np.uint8(3), run=32, bits=2),
                bits.pack(scales & np.uint8(15), run=8, bits=4),
                bits.pack(scales >> np.uint8(4), run=4, bits=2),
                parts.d,
            ]
        )
