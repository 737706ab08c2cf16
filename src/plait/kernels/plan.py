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
from plait.core.errors import CapacityError, UserError

__all__ = [
    "PackedMatrix",
    "Plan",
    "Pool",
    "check_isa",
    "default_num_threads",
    "make_plan",
    "num_threads",
    "runnable_isas",
    "start_threads",
    "trim_heap",
]

THREADS_PER_PROCESSOR = 8


def check_isa(isa: str) -> None:
    """Raise UserError for a kernel table that does not run on this processor; "auto" always does."""
    if isa not in (known := ("auto", *runnable_isas())):
        raise UserError(
            f"isa={isa!r} does not run on this processor", f"one of: {', '.join(known)}"
        )


def num_threads(wanted: int) -> int:
    """`wanted`, or what this machine allows for 0. Raises UserError for far too many.

    More threads than processors wait for each other: hundreds of them seem to hang.
    """
    own = default_num_threads()
    if wanted > THREADS_PER_PROCESSOR * own:
        raise UserError(
            f"threads={wanted} is far more than this machine has processors",
            f"at most {THREADS_PER_PROCESSOR * own}; 0 is {own}",
        )
    return wanted or own


def start_threads(wanted: int) -> Pool:
    """A pool of `num_threads(wanted)` threads. Raises CapacityError when the system refuses them."""
    count = num_threads(wanted)
    try:
        return Pool(count)
    except RuntimeError as error:
        hint = "threads=1 needs no more; or raise the limit of processes"
        raise CapacityError(f"the system refuses to start {count} threads: {error}", hint) from None
