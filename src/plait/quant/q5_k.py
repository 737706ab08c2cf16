"""Q5_K: f16 d; f16 dmin; u8 sc[12] (8 scales and minima); u8 qh[32] (fifth bits); u8 qs[128].

Weight = d * scale * q - dmin * minimum, 8 sub-blocks of 32. Bit j of qh[l] belongs to weight
32 j + l.
"""

from __future__ import annotations

import numpy as np

from plait.quant import base, bits, superblock
from plait.quant.base import Bytes, Floats

SUMMARY = "5-bit k-quant (5.5 bits per weight)"


class Format(base.Format):
    name = "q5_k"
    block_size = superblock.SIZE
    block_bytes = 176
    ggml_type = 13

    def unpack(self, blocks: Bytes) -> Floats:
        scales, minima = superblock.unpack_pairs(blocks[:, 4:16])
        high = bits.unpack(blocks[:, 16:48], run=32, bits=1)
        quants = bits.unpack(blocks[:, 48:], run=32, bits=4) | (high << np.uint8(4))
        d, dmin = bits.half(blocks, 0), bits.half(blocks, 2)
        return superblock.affine_weights(d, dmin, scales, minima, quants)

    def pack(self, weights: Floats) -> Bytes:
        parts = superblock.affine(weights, sub_block=32, scale_max=63, quant_max=31)
        return np.hstack(
            [
                parts.d,
                parts.dmin,
                superblock.pack_pairs(parts.scales, parts.minima),
                bits.pack(parts.quants >> np.uint8(4), run=32, bits=1),
                bits.pack(parts.quants & np.uint8(15), run=32, bits=4),
            ]
        )
