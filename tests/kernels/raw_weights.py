"""Random weights in every block format, and what the gguf package says they mean."""

from __future__ import annotations

import numpy as np
from gguf import GGMLQuantizationType, dequantize
from gguf.constants import GGML_QUANT_SIZES
from numpy.typing import NDArray

# Format -> where the f16 numbers of a block are.
HALVES: dict[str, tuple[int, ...]] = {
    "q4_0": (0,), "q4_1": (0, 2), "q5_0": (0,), "q5_1": (0, 2), "q8_0": (0,), "iq4_nl": (0,),
    "q2_k": (80, 82), "q3_k": (108,), "q4_k": (0, 2), "q5_k": (0, 2), "q6_k": (208,),
}  # fmt: skip
FLOATS = ("f32", "f16", "bf16")
BLOCKS = tuple(HALVES)
ALL = FLOATS + BLOCKS


def type_of(name: str) -> GGMLQuantizationType:
    return next(kind for kind in GGMLQuantizationType if kind.name.lower() == name)


def block_size(name: str) -> int:
    return int(GGML_QUANT_SIZES[type_of(name)][0])


def random_raw(name: str, rows: int, cols: int, seed: int = 0) -> NDArray[np.uint8]:
    """[rows, row bytes]: random codes and sub-scales, scales of either sign between 2^-8 and 2^-6."""
    random = np.random.default_rng(seed)
    if name in FLOATS:
        return _random_floats(name, random.standard_normal((rows, cols)).astype(np.float32))
    size, num_bytes = GGML_QUANT_SIZES[type_of(name)]
    raw = random.integers(0, 256, (rows, cols // size, num_bytes), np.uint8)
    for at in HALVES[name]:
        halves = random.integers(0x1C00, 0x2400, raw.shape[:2], np.uint16)
        halves |= random.integers(0, 2, raw.shape[:2], np.uint16) << np.uint16(15)
        raw[..., at : at + 2] = halves[..., None].view(np.uint8)
    return raw.reshape(rows, -1)


def _random_floats(name: str, values: NDArray[np.float32]) -> NDArray[np.uint8]:
    if name == "f32":
        return values.view(np.uint8)
    if name == "f16":
        return values.astype(np.float16).view(np.uint8)
    return (values.view(np.uint32) >> np.uint32(16)).astype(np.uint16).view(np.uint8)


def meaning(name: str, raw: NDArray[np.uint8]) -> NDArray[np.float32]:
    """[rows, row bytes] -> float32 [rows, cols], by the gguf package."""
    return np.asarray(dequantize(raw, type_of(name)), np.float32)
