"""The step's plain data: what the engine hands to a runner and what it gets back."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Listing
from typing import NamedTuple, Protocol

from plait.core.sequence import Sequence
from plait.core.window import Floats, KVView, Masks, Window


class StepInput(NamedTuple):
    """One sequence's part of a forward: feed `window` of `sequence`, its K/V lies where `view` says.

    best: k, when only the k best logits of each wanted row matter; 0 when all do. allowed: what each of them may
    choose; None: everything.
    """

    sequence: Sequence
    window: Window
    view: KVView
    best: int = 0
    allowed: Masks | None = None


class Runner(Protocol):
    """Runs the model once over a ragged batch.

    Needs nothing but its arguments: a runner keeps no state per request. The K/V of every fed slot is
    written through the view; slots before `window.start` are read as they stand in the pool.
    """

    def forward(self, inputs: Listing[StepInput]) -> list[Floats]:
        """Logits float32 [len(window.rows), vocab_size] per input, in order.

        Of an input with `best` = k > 0 each logit is exact or -inf, and none of the k best that a row may choose (nor
        one that equals the last of them) is -inf.
        The arrays are valid until the next call. No row may depend on what else is in the batch.
        """
        ...

    def hidden(self, inputs: Listing[StepInput], *, until: str) -> Floats:
        """The rows [all fed positions, width], float32, at a cut point of the model ("hidden": what the head
        gets); the layers after it are not run."""
        ...

    def counters(self) -> Mapping[str, int]:
        """What happened inside since the model was loaded, by name; for people."""
        ...
