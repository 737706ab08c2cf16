"""`plait` with a model that fails for some requests, told by their seed.

FAULT: what the model said cannot be taken in. CRASH: every forward fails that one of the rows of such a request
is in, from its third token on. SLIP: what decides its tokens fails. Run as a module, with the arguments of `plait`.
"""

from __future__ import annotations

from collections.abc import Sequence as Listing
from typing import Any

from plait.__main__ import main
from plait.core.sequence import Event, Sequence
from plait.core.step import StepInput
from plait.core.traits import Traits
from plait.decoding.base import Item
from plait.decoding.verify import Decoder
from plait.engine import emission
from plait.runner.native import NativeRunner

FAULT, CRASH, SLIP = 666, 667, 668
FAULTS = (FAULT, CRASH, SLIP)

forward = NativeRunner.forward
take = emission.take
decide_all = Decoder.decide_all


def failing_forward(self: NativeRunner, inputs: Listing[StepInput]) -> list[Any]:
    for sequence, window, *_ in inputs:
        if sequence.params.seed == CRASH and window.end > sequence.prompt_length + 2:
            raise RuntimeError("a crash that a test put here")
    return forward(self, inputs)


def failing_take(seq: Sequence, traits: Traits) -> Event | None:
    if seq.params.seed == FAULT:
        raise RuntimeError("a fault that a test put here")
    return take(seq, traits)


def failing_decide(self: Decoder, items: list[Item]) -> list[Any]:
    if any(item.seq.params.seed == SLIP for item in items):
        raise RuntimeError("a slip that a test put here")
    return decide_all(self, items)


if __name__ == "__main__":
    NativeRunner.forward = failing_forward  # type: ignore[method-assign]
    Decoder.decide_all = failing_decide  # type: ignore[method-assign]
    emission.take = failing_take
    main()
