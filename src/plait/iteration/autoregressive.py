"""Left to right: feed what is not stored yet, write one token, again.

A prompt that does not fit in the budget is fed in chunks without any further rule: the window starts where
the stored slots end and goes as far as the budget, and the last row is wanted only when it reaches the end
of the canvas. A preempted request recomputes its canvas in the same way.

With `prompt_logprobs` every row of the prompt is wanted, `PROMPT_ROWS` at a time, so that nobody ever holds
[prompt, vocabulary] logits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from plait.core.errors import UserError
from plait.core.sequence import Sequence
from plait.core.traits import Predicts, Traits
from plait.core.window import Ints, PatternKind, Update, Window
from plait.iteration import base
from plait.iteration.base import Options as Options

SUMMARY = "left to right, one token per forward; long prompts in chunks"

_FIRST_ROW: Ints = np.zeros(1, np.int32)
_FIRST_ROW.setflags(write=False)
PROMPT_ROWS = 64
MOST_FORCED = 16
"""Forced tokens after which a request counts as one that waits for its prompt."""


class Planner(base.Planner):
    """For causal models that predict the next token."""

    kinds = (PatternKind.CAUSAL,)
    pairs = True
    constrains = True

    def __init__(self, options: Any, traits: Traits) -> None:
        super().__init__(options, traits)
        if traits.pattern.kind not in self.kinds or traits.predicts is not Predicts.NEXT:
            raise UserError(
                "planner: this model does not generate left to right",
                "use the planner 'block' or 'auto'",
            )

    def admit(self, seq: Sequence) -> None:
        """The canvas is the prompt; tokens are appended."""

    def span(self, seq: Sequence) -> int:
        return seq.limit

    def next(self, seq: Sequence, stored: int, budget: int) -> Window | None:
        length = seq.length
        is_scored = seq.params.prompt_logprobs is None or seq.is_scored
        first = length - 1 if is_scored else seq.scored - 1  # the next row that is wanted
        start = min(stored, first)
        end = min(length, start + budget)
        if not is_scored:
            end = min(end, first + PROMPT_ROWS)
        # The row of the last position is wanted to go on from; not when there is nothing to go on to.
        last = min(end, length if length < seq.limit else length - 1)
        is_one = start == first == last - 1  # as in nearly all steps
        rows = _FIRST_ROW if is_one else np.arange(first - start, last - start, dtype=np.int32)
        targets = np.arange(first + 1, last + 1, dtype=np.int32)
        return Window(start, end, rows, targets, self.traits.pattern, end)

    def streams(self, seq: Sequence, stored: int) -> bool:
        """Tokens that a grammar left no choice about are fed together; that is no prompt."""
        few = MOST_FORCED if seq.params.structured_outputs else 1
        return seq.length - stored <= 1 + few

    def absorb(self, seq: Sequence, window: Window, update: Update) -> None:
        seq.final = seq.length
