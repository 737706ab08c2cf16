"""A model's tensors in the form the executors want: packed matrices, float vectors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from plait.core.errors import FormatError
from plait.core.window import Floats
from plait.kernels.plan import PackedMatrix, Pool
from plait.kernels.tiles import Kind
from plait.weights.base import Checkpoint

FLOATS = ("f32", "f16", "bf16")


class Weights:
    """Loads each tensor once. Packing reads the mapped file and gives its pages back as it goes, so
    that the file and the panels are never both resident."""

    def __init__(
        self, checkpoint: Checkpoint, pool: Pool, packing: Callable[[str, str], str]
    ) -> None:
        """packing: (tensor, format) -> the `packing` of PackedMatrix."""
        self._checkpoint = checkpoint
        self._pool = pool
        self._packing = packing
        self._matrices: dict[str, PackedMatrix] = {}

    def matrix(self, name: str) -> PackedMatrix:
        """A [rows, cols] tensor packed into panels. Raises FormatError when it is no matrix."""
        if name not in self._matrices:
            shape = self._checkpoint.info(name).shape
            if len(shape) != 2:
                raise FormatError(f"tensor {name} has {len(shape)} dimensions", "a matrix has 2")
            self._matrices[name] = self._packed(name, shape, 0, 1)
        return self._matrices[name]

    def experts(
        self, names: tuple[str, ...], count: int, *, is_stacked: bool
    ) -> list[PackedMatrix]:
        """`count` matrices: the parts of one tensor [count, rows, cols] if is_stacked, else a tensor each."""
        if not is_stacked:
            return [self.matrix(name) for name in names]
        (name,) = names
        shape = self._checkpoint.info(name).shape[1:]
        for index in range(count):
            if (key := f"{name}[{index}]") not in self._matrices:
                self._matrices[key] = self._packed(name, shape, index, count)
        return [self._matrices[f"{name}[{index}]"] for index in range(count)]

    def _packed(self, name: str, shape: tuple[int, ...], index: int, count: int) -> PackedMatrix:
        """The index-th of the `count` equal parts that a tensor's bytes are."""
        info, raw = self._checkpoint.info(name), self._checkpoint.raw(name)
        size = len(raw) // count
        first = index * size
        rows, cols = shape

        def done(begin: int, end: int) -> None:
            self._checkpoint.release(name, first + begin, first + end)

        return PackedMatrix(
            info.format_name,
            rows,
            cols,
            raw[first : first + size],
            self._pool,
            packing=self._packing(name, info.format_name),
            done=done,
        )

    def vector(self, name: str) -> Floats:
        """A one-dimensional tensor as float32."""
        return np.ravel(self._checkpoint.dequantized(name))

    @property
    def kinds(self) -> set[Kind]:
        """Of the matrices loaded so far, those that int8 activations meet."""
        matrices = self._matrices.values()
        return {Kind(m.format, m.is_sparse) for m in matrices if m.format not in FLOATS}

    @property
    def packed_bytes(self) -> int:
        """Memory that the panels take."""
        return sum(matrix.bytes for matrix in self._matrices.values())
