"""y = x W^T on packed weights: the typed surface over csrc/include/plait/linear.h.

W is a `PackedMatrix`, [rows, cols], packed from the bytes of a model file. Two paths: "int8" quantises the
activations per block of 16 and multiplies integers, "f32" multiplies floats. Of the blocks of 32 that `fine` names,
int8 keeps what rounding left over too, as further blocks behind the row's own (15 bits in all). Within a path the bits of a
result depend on its row of x and its row of W alone: not on the other rows, the threads or the processor.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from plait import _C
from plait._C import PackedMatrix, Pool
from plait.core.window import Floats, Ints

Activations = Literal["int8", "f32"]


class QuantizedRows(NamedTuple):
    """values: int8 [rows, cols + 32 * fine]. multipliers: uint16, one per 16 values. scales: float32 [rows]."""

    values: NDArray[np.int8]
    multipliers: NDArray[np.uint16]
    scales: Floats


def quantize_rows(x: Floats, isa: str = "auto", fine: Ints | None = None) -> QuantizedRows:
    """Float32 [rows, cols] as integers in [-127, 127] times an integer per 16 times a scale per row.

    fine: int32, ascending blocks of 32 columns whose rests follow; they count 1/128 of the row's scale.
    Not-a-number and infinities give finite garbage. Raises ValueError unless cols is a multiple of 32.
    """
    return QuantizedRows(*_C.quantize_rows(np.ascontiguousarray(x), isa, fine))


def linear(
    packed: PackedMatrix,
    x: Floats,
    pool: Pool,
    *,
    activations: Activations = "int8",
    isa: str = "auto",
    bias: Floats | None = None,
    residual: Floats | None = None,
    panels: tuple[int, int] | None = None,
    fine: Ints | None = None,
) -> Floats:
    """x W^T + bias + residual for x float32 [M, cols]: float32 [M, rows].

    bias: [rows]. residual: [M, rows]. isa: a name of `runnable_isas()`, or "auto" for the best. panels: only
    the rows [8 first, 8 last) of W; the other elements of the result are the residual's, or 0. fine: int32,
    ascending blocks of 32 columns of x that int8 keeps finer.
    Raises ValueError for shapes, types or names that do not fit, and for "int8" with float weights.
    """
    return _C.linear(
        packed,
        np.ascontiguousarray(x),
        pool,
        activations=activations,
        isa=isa,
        bias=bias,
        residual=None if residual is None else np.ascontiguousarray(residual),
        panels=panels,
        fine=fine,
    )
