"""IEEE single precision, unchanged."""

from __future__ import annotations

import numpy as np

from plait.quant import base
from plait.quant.base import Bytes, Floats

SUMMARY = "32-bit float, as trained"


class Format(base.Format):
    name = "f32"
    block_size = 1
    block_bytes = 4
    ggml_type = 0

    def unpack(self, blocks: Bytes) -> Floats:
        return blocks.view("<f4").astype(np.float32)

    def pack(self, weights: Floats) -> Bytes:
        return weights.astype("<f4").view(np.uint8)
