"""IEEE half precision."""

from __future__ import annotations

from plait.quant import base, bits
from plait.quant.base import Bytes, Floats

SUMMARY = "16-bit float (IEEE half)"


class Format(base.Format):
    name = "f16"
    block_size = 1
    block_bytes = 2
    ggml_type = 1

    def unpack(self, blocks: Bytes) -> Floats:
        return bits.half(blocks, 0)

    def pack(self, weights: Floats) -> Bytes:
        return bits.to_half(weights)
