"""The linear kernels alone: y = x W^T per weight format, shape and number of rows of x.

W is a matrix of the model, packed as often as it takes for the copies together to be several times larger
than the last-level cache, so that every pass reads it from memory as a forward does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from plait.analysis.roofline import Peaks
from plait.core.errors import UserError
from plait.kernels.measure import time_linear
from plait.kernels.plan import PackedMatrix, Pool
from plait.weights.base import Checkpoint
from plait.weights.open import open_checkpoint

ROWS = (1, 2, 4, 8, 16, 32, 128, 512)
FLOATS = ("f32", "f16", "bf16")
CACHES = 4
"""The copies of a matrix fill more than so many last-level caches."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Matrices of one format and shape (out features, in features); tensor: the first of them."""

    format_name: str
    rows: int
    cols: int
    tensor: str


def kinds(checkpoint: Checkpoint, wanted: str = "") -> list[Kind]:
    """The different matrices of a model that the int8 path multiplies; wanted: only this format."""
    found: dict[tuple[str, int, int], Kind] = {}
    for info in checkpoint.tensors.values():
        if len(info.shape) == 2 and info.format_name not in FLOATS:
            key = (info.format_name, *info.shape)
            found.setdefault(key, Kind(*key, info.name))
    chosen = [kind for kind in found.values() if wanted in ("", kind.format_name)]
    if not chosen:
        have = ", ".join(sorted({kind.format_name for kind in found.values()})) or "none"
        raise UserError(f"no quantised matrices of format {wanted or 'any'}", f"formats: {have}")
    return chosen


def measure(
    path: Path,
    pool: Pool,
    peaks: Peaks,
    *,
    wanted: str = "",
    rows: tuple[int, ...] = ROWS,
    seconds: float = 0.25,
    isa: str = "auto",
) -> Iterator[dict[str, Any]]:
    """A record per kind of matrix and number of rows of x. seconds: about how long each is measured."""
    with open_checkpoint(path) as checkpoint:
        for kind in kinds(checkpoint, wanted):
            copies = _copies(checkpoint, kind, pool, CACHES * peaks.last_level_cache)
            for count in rows:
                taken = _product_seconds(copies, count, pool, seconds, isa)
                yield _record(kind, count, copies, taken, peaks)


def _copies(checkpoint: Checkpoint, kind: Kind, pool: Pool, least: int) -> list[PackedMatrix]:
    raw = checkpoint.raw(kind.tensor)
    copies: list[PackedMatrix] = []
    while not copies or len(copies) * copies[0].bytes <= least:
        copies.append(PackedMatrix(kind.format_name, kind.rows, kind.cols, raw, pool))
    return copies


def _product_seconds(
    copies: list[PackedMatrix], count: int, pool: Pool, seconds: float, isa: str
) -> float:
    """Median seconds of one product."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((count, copies[0].cols), np.float32)
    first = time_linear(copies, x, pool, 1, isa)[0]
    passes = max(3, min(200, int(seconds / first)))
    return median(time_linear(copies, x, pool, passes, isa)) / len(copies)


def _record(
    kind: Kind, count: int, copies: list[PackedMatrix], seconds: float, peaks: Peaks
) -> dict[str, Any]:
    read, multiplied = copies[0].bytes / seconds, kind.rows * kind.cols * count / seconds
    return {
        "format": kind.format_name,
        "shape": [kind.rows, kind.cols],
        "rows": count,
        "copies": len(copies),
        "microseconds": seconds * 1e6,
        "gigabytes_per_second": read / 1e9,
        "of_read": read / peaks.read,
        "gigamacs_per_second": multiplied / 1e9,
        "of_multiply": multiplied / peaks.multiply,
    }
