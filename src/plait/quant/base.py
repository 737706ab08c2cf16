"""What every weight format says about itself, and how to find one by name or GGUF type number.

A tensor is rows of `cols` weights; each row is a run of whole blocks of `block_size` weights stored
in `block_bytes` bytes (little endian, no padding). `dequantize` here is where the meaning of stored
weights is defined; kernels are tested against it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cache
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from plait.core import registry
from plait.core.errors import FormatError

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

MAX_BYTES = 2**63 - 1
"""No tensor is larger: a size must fit the signed 64-bit offsets that files and kernels use."""

_CHUNK_WEIGHTS = 1 << 18  # keeps the temporaries of one step in the cache

# GGUF type numbers we know by name but do not read, for a message that says more than a number.
_UNREAD: Mapping[int, str] = {
    9: "Q8_1", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 21: "IQ3_S",
    22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M",
    34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4",
}  # fmt: skip


class Format(ABC):
    """One way to store weights. Stateless; siblings fill in the facts and the two block functions.

    name: public name, equal to the file's. block_size: weights per block. block_bytes: bytes per
    block. ggml_type: the number GGUF files use for it.
    """

    name: ClassVar[str]
    block_size: ClassVar[int]
    block_bytes: ClassVar[int]
    ggml_type: ClassVar[int]

    @abstractmethod
    def unpack(self, blocks: Bytes) -> Floats:
        """uint8 [n, block_bytes] -> float32 [n, block_size]."""

    @abstractmethod
    def pack(self, weights: Floats) -> Bytes:
        """Finite float32 [n, block_size] -> uint8 [n, block_bytes]; FormatError if out of range."""

    def nbytes(self, shape: Sequence[int]) -> int:
        """Bytes a row-major tensor of this shape takes. FormatError for impossible shapes."""
        weights = 1
        for dim in shape:
            weights *= max(dim, 0)
        if any(dim < 0 for dim in shape) or weights > MAX_BYTES:
            raise FormatError(f"no tensor can have the shape {list(shape)}")
        cols = shape[-1] if shape else 1
        if cols % self.block_size:
            raise FormatError(
                f"rows of {cols} weights cannot be stored as {self.name}",
                f"the row length must be a multiple of {self.block_size}",
            )
        size = weights // self.block_size * self.block_bytes
        if size > MAX_BYTES:
            raise FormatError(f"no tensor can have the shape {list(shape)}")
        return size

    def dequantize(self, raw: Bytes, shape: Sequence[int]) -> Floats:
        """The weights as float32 [*shape].

        raw: uint8 of any shape, C-contiguous, exactly `nbytes(shape)` bytes (else FormatError).
        """
        if raw.size != self.nbytes(shape):
            raise FormatError(
                f"{raw.size} bytes are not a {self.name} tensor of shape {list(shape)}",
                f"that takes {self.nbytes(shape)} bytes",
            )
        blocks = raw.reshape(-1, self.block_bytes)
        weights = np.empty((blocks.shape[0], self.block_size), dtype=np.float32)
        step = max(1, _CHUNK_WEIGHTS // self.block_size)
        with np.errstate(
            invalid="ignore", over="ignore"
        ):  # what a file holds is data, NaN included
            for start in range(0, blocks.shape[0], step):
                weights[start : start + step] = self.unpack(blocks[start : start + step])
        return weights.reshape(tuple(shape))

    def quantize(self, weights: Floats) -> Bytes:
        """float32 [rows, cols] -> uint8 [rows, bytes per row], rounding to nearest.

        Raises FormatError if cols is no whole number of blocks or a weight is not finite.
        """
        row_bytes = self.nbytes(weights.shape[-1:])
        if not np.isfinite(weights).all():
            raise FormatError(f"weights that are not finite cannot be stored as {self.name}")
        blocks = np.ascontiguousarray(weights, dtype=np.float32).reshape(-1, self.block_size)
        return self.pack(blocks).reshape(weights.shape[0], row_bytes)


def by_name(name: str) -> Format:
    """The format with this public name; NotFoundError otherwise."""
    return _siblings()[name] if name in _siblings() else _load(name)


def by_ggml_type(number: int) -> Format:
    """The format that GGUF files give this type number. FormatError naming it if unread."""
    for known in _siblings().values():
        if known.ggml_type == number:
            return known
    kind = f"{_UNREAD[number]} (type {number})" if number in _UNREAD else f"type {number}"
    raise FormatError(
        f"weights stored as {kind} are not supported", f"readable: {', '.join(_siblings())}"
    )


@cache
def _siblings() -> dict[str, Format]:
    return {name: _load(name) for name in registry.names("quant")}


def _load(name: str) -> Format:
    found = registry.load("quant", name).Format()
    assert isinstance(found, Format), f"quant/{name}.py does not export a Format"
    return found
