"""Q5_1 blocks: f16 d; f16 m; u8 qh[4] (bit i: fifth bit of weight i); u8 qs[16].

Weight = d * q + m.
"""

from __future__ import annotations

import numpy as np

from plait.quant import base, bits
from plait.quant.base import Bytes, Floats

SUMMARY = "5-bit, scale and offset per 32 weights (6 bits per weight)"


class Format(base.Format):
    name = "q5_1"
    block_size = 32
    block_bytes = 24
    ggml_type = 7

    def unpack(self, blocks: Bytes) -> Floats:
        quants = bits.unpack_five(blocks[:, 4:]).astype(np.float32)
        return bits.half(blocks, 0) * quants + bits.half(blocks, 2)

    def pack(self, weights: Floats) -> Bytes:
        head, quants = bits.affine(weights, 31)
        return np.hstack([head, bits.pack_five(quants)])
