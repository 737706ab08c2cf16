"""`plait` with a model that fails for two kinds of request, told by their seed.

FAULT: what the model said cannot be taken in, which concerns that request alone. CRASH: the whole forward
fails, and so every request that was in it. Run as a module, with the arguments of `plait`.
"""

from __future__ import annotations

from collections.abc import Sequence as Listing
from typing import Any

from plait.__main__ import main
from plait.core.sequence import Event, Sequence
from plait.core.step import StepInput
from plait.core.traits import Traits
from plait.engine import emission
from plait.runner.native import NativeRunner

FAULT = 666
CRASH = 667

forward = NativeRunner.forward
take = emission.take


def failing_forward(self: NativeRunner, inputs: Listing[StepInput]) -> list[Any]:
    if any(one.sequence.params.seed == CRASH for one in inputs):
        raise RuntimeError("a crash that a test put here")
    return forward(self, inputs)


def failing_take(seq: Sequence, traits: Traits) -> Event | None:
    if seq.params.seed == FAULT:
        raise RuntimeError("a fault that a test put here")
    return take(seq, traits)


if __name__ == "__main__":
    NativeRunner.forward = failing_forward  # type: ignore[method-assign]
    emission.take = failing_take
    main()
