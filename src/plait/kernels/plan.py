"""The native plan and what it is made of; `_C.pyi` has the types, csrc/include/plait/plan.h the contract."""

from __future__ import annotations

from plait._C import (
    PackedMatrix,
    Plan,
    Pool,
    default_num_threads,
    make_plan,
    runnable_isas,
    trim_heap,
)

__all__ = [
    "PackedMatrix",
    "Plan",
    "Pool",
    "default_num_threads",
    "make_plan",
    "runnable_isas",
    "trim_heap",
]
