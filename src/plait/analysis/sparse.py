"""2:4 sparse matrices: how fast their panels are beside dense ones of the same weights.

A matrix of the model is pruned by magnitude (the two smallest of every four neighbouring columns become zero) and
stored anew in a format with sparse panels. Pruned like this a model answers badly: what is measured is time.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plait.analysis import gemm
from plait.analysis.roofline import Peaks
from plait.core.errors import UserError
from plait.core.window import Floats
from plait.kernels.measure import time_linear
from plait.kernels.plan import PackedMatrix, Pool
from plait.quant.base import by_name
from plait.weights.base import Checkpoint
from plait.weights.open import open_checkpoint

FORMATS = ("q4_0", "q8_0", "q6_k")
SLAB = 1 << 22
"""Weights pruned at a time."""


def prune(weights: Floats) -> Floats:
    """float32 [N, K] with the two smallest magnitudes of every four neighbours of a row set to zero."""
    groups = weights.reshape(-1, 4).copy()
    smallest = np.argsort(np.abs(groups), axis=1, kind="stable")[:, :2]
    np.put_along_axis(groups, smallest, 0, axis=1)
    return groups.reshape(weights.shape)


def measure(
    path: Path,
    pool: Pool,
    peaks: Peaks,
    *,
    wanted: str = "",
    rows: tuple[int, ...] = gemm.ROWS,
    seconds: float = 0.25,
    isa: str = "auto",
) -> Iterator[dict[str, Any]]:
    """A record per shape of matrix, format with sparse panels and number of rows of x, dense and sparse passes
    taking turns. seconds: about how long each is measured."""
    formats = [name for name in FORMATS if wanted in ("", name)]
    if not formats:
        raise UserError(
            f"{wanted} has no sparse panels", f"formats that have: {', '.join(FORMATS)}"
        )
    with open_checkpoint(path) as checkpoint:
        shapes = {(kind.rows, kind.cols): kind for kind in gemm.kinds(checkpoint)}
        for kind in shapes.values():
            for name in formats:
                if kind.cols % by_name(name).block_size == 0:
                    pair = _Pair(checkpoint, kind, name, pool, gemm.CACHES * peaks.last_level_cache)
                    for count in rows:
                        yield pair.record(count, seconds, isa)


class _Pair:
    """Copies of one pruned matrix in dense and in sparse panels."""

    def __init__(
        self, checkpoint: Checkpoint, kind: gemm.Kind, name: str, pool: Pool, least: int
    ) -> None:
        raw = _pruned(checkpoint, kind, name)
        self._pool = pool
        self._panels: dict[bool, list[PackedMatrix]] = {False: [], True: []}
        for is_sparse, copies in self._panels.items():
            while not copies or len(copies) * copies[0].bytes <= least:
                one = PackedMatrix(
                    name,
                    kind.rows,
                    kind.cols,
                    raw,
                    pool,
                    packing="sparse" if is_sparse else "panels",
                )
                assert one.is_sparse == is_sparse
                copies.append(one)

    def record(self, count: int, seconds: float, isa: str) -> dict[str, Any]:
        """Shortest and median times of one product with `count` rows of x, in microseconds."""
        first = self._panels[False][0]
        x = np.random.default_rng(0).standard_normal((count, first.cols), np.float32)
        once = sum(self._time(x, isa).values())
        passes = [self._time(x, isa) for _ in range(max(3, min(200, int(2 * seconds / once))))]
        dense, sparse = (
            1e6 * np.array([one[kind] for one in passes]) / len(self._panels[kind])
            for kind in (False, True)
        )
        return {
            "format": first.format,
            "shape": [first.rows, first.cols],
            "rows": count,
            "bytes": self._panels[True][0].bytes / first.bytes,
            "dense_microseconds": float(dense.min()),
            "sparse_microseconds": float(sparse.min()),
            "speedup": float(dense.min() / sparse.min()),
            "median_speedup": float(np.median(dense) / np.median(sparse)),
        }

    def _time(self, x: Floats, isa: str) -> dict[bool, float]:
        return {
            kind: time_linear(copies, x, self._pool, 1, isa)[0]
            for kind, copies in self._panels.items()
        }


def _pruned(checkpoint: Checkpoint, kind: gemm.Kind, name: str) -> NDArray[np.uint8]:
    raw = checkpoint.raw(kind.tensor).reshape(kind.rows, -1)
    step = max(1, SLAB // kind.cols)
    slabs = []
    for first in range(0, kind.rows, step):
        part = raw[first : first + step]
        weights = by_name(kind.format_name).dequantize(part, (len(part), kind.cols))
        slabs.append(by_name(name).quantize(prune(weights)))
    return np.concatenate(slabs).reshape(-1)
