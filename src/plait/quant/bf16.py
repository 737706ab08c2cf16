"""bfloat16: the upper half of a single-precision float."""

from __future__ import annotations

import numpy as np

from plait.core.errors import FormatError
from plait.quant import base
from plait.quant.base import Bytes, Floats

SUMMARY = "16-bit float with the range of 32-bit (bfloat16)"


class Format(base.Format):
    name = "bf16"
    block_size = 1
    block_bytes = 2
    ggml_type = 30

    def unpack(self, blocks: Bytes) -> Floats:
        return (blocks.view("<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)

    def pack(self, weights: Floats) -> Bytes:
        whole = weights.view(np.uint32).astype(np.uint64)
        upper = (whole + 0x7FFF + ((whole >> np.uint64(16)) & np.uint64(1))) >> np.uint64(16)
        became_infinite = (upper & np.uint64(0x7FFF)) >= 0x7F80
        if became_infinite.any():
            raise FormatError("a weight is beyond the range of bf16")
        return upper.astype("<u2").view(np.uint8)
