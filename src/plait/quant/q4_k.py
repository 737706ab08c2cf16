"""Q4_K: f16 d; f16 dmin; u8 sc[12] (8 six-bit scales and minima); u8 qs[128].

Weight = d * scale * q - dmin * minimum, 8 sub-blocks of 32.
"""

from __future__ import annotations

import numpy as np

from plait.quant import base, bits, superblock
from plait.quant.base import Bytes, Floats

SUMMARY = "4-bit k-quant (4.5 bits per weight)"


class Format(base.Format):
    name = "q4_k"
    block_size = superblock.SIZE
    block_bytes = 144
    ggml_type = 12

    def unpack(self, blocks: Bytes) -> Floats:
        scales, minima = superblock.unpack_pairs(blocks[:, 4:16])
        quants = bits.unpack(blocks[:, 16:], run=32, bits=4)
        d, dmin = bits.half(blocks, 0), bits.half(blocks, 2)
        return superblock.affine_weights(d, dmin, scales, minima, quants)

    def pack(self, weights: Floats) -> Bytes:
        parts = superblock.affine(weights, sub_block=32, scale_max=63, quant_max=15)
        pairs = superblock.pack_pairs(parts.scales, parts.minima)
        return np.hstack([parts.d, parts.dmin, pairs, bits.pack(parts.quants, run=32, bits=4)])
