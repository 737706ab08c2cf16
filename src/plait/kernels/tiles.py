"""From how many rows of activations on the int8 kernels store weights as bytes before they multiply.

For few rows each tile decodes the packed weights on its way, for many it pays to write a panel out once. Where the one
overtakes the other depends on the processor, the format and the kind of panels, so it is measured, as
FlashDecoding++ (arXiv:2311.01282 section 5) does for its kinds of kernels. No choice changes a bit of a result.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from plait._C import PackedMatrix, Pool, expand_from, set_expand_from
from plait.kernels.measure import time_linear

__all__ = ["Kind", "expand_from", "measure", "set_expand_from"]

ROWS = (4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 32, 48)
"""Where the two are compared."""

NEVER = 1 << 30
MATRIX = (256, 1536)
"""Rows and columns of the matrix that is measured: it stays in a core's own cache."""

TURNS = 15


class Kind(NamedTuple):
    """What a choice is made for: a format's public name, and whether its panels are sparse."""

    format_name: str
    is_sparse: bool


def measure(kind: Kind, raw: NDArray[np.uint8], isa: str) -> int:
    """The rows of ROWS from which on storing has the larger sum of gains over decoding; NEVER if it has none.

    raw: a matrix of shape MATRIX in the format, of zeros, so that its panels can be of either kind. One thread, some
    milliseconds. Leaves what was chosen before in place.
    """
    pool = Pool(1)
    matrix = PackedMatrix(
        kind.format_name, *MATRIX, raw, pool, packing="sparse" if kind.is_sparse else "panels"
    )
    before = expand_from(isa, *kind)
    try:
        gains = [_gain(matrix, kind, rows, pool, isa) for rows in ROWS]
    finally:
        set_expand_from(isa, *kind, before)
    sums = np.cumsum(gains[::-1])[::-1]
    best = int(np.argmax(sums))
    return ROWS[best] if sums[best] > 0 else NEVER


def _gain(matrix: PackedMatrix, kind: Kind, rows: int, pool: Pool, isa: str) -> float:
    """Logarithm of how many times faster storing is."""
    x = np.ones((rows, matrix.cols), np.float32)
    shortest = {1: float("inf"), NEVER: float("inf")}
    for _ in range(TURNS):
        for choice, taken in shortest.items():
            set_expand_from(isa, *kind, choice)
            shortest[choice] = min(taken, *time_linear([matrix], x, pool, 2, isa))
    return math.log(shortest[NEVER] / shortest[1])
