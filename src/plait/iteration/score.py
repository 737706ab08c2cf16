"""Score stretches of a prompt under a masked model: they are masked, and what stands there gets its log-probability.

`SamplingParams.infill` names the stretches, `prompt_logprobs` asks for the numbers; nothing is generated. All of
the stretches are masked together, so the numbers belong to one term of a likelihood (programs/likelihood.py
draws such terms). At most `ROWS` rows are scored at a time, so that nobody ever holds [prompt, vocabulary] logits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from plait.core.errors import UserError
from plait.core.sequence import Sequence
from plait.core.traits import Predicts, Traits
from plait.core.window import Ints, PatternKind, Slot, Update, Window
from plait.iteration import base
from plait.iteration.base import Options as Options

SUMMARY = "no text: log-probabilities of masked stretches of the prompt"

ROWS = 64


class Planner(base.Planner):
    """For models with a mask token; the canvas is fed whole, with the model's own attention."""

    generates = False
    kinds = (PatternKind.FULL, PatternKind.BLOCK)
    fills = True
    is_whole = True

    def __init__(self, options: Any, traits: Traits) -> None:
        super().__init__(options, traits)
        if traits.mask_token is None or traits.pattern.kind not in self.kinds:
            raise UserError(
                "planner: this model has no masked positions to score",
                "use the planner 'auto' with prompt_logprobs",
            )
        self.mask_token = traits.mask_token
        self.shift = 1 if traits.predicts is Predicts.NEXT else 0

    def admit(self, seq: Sequence) -> None:
        """Raises UserError for a request that asks for anything else."""
        if not seq.params.infill or seq.params.prompt_logprobs is None:
            raise UserError(
                "planner: 'score' needs stretches to score",
                "give infill, prompt_logprobs and max_tokens=0",
            )
        seq.limit = seq.length

    def span(self, seq: Sequence) -> int:
        return seq.limit

    def next(self, seq: Sequence, stored: int, budget: int) -> Window | None:
        if seq.length > budget:
            return None
        masked = _masked(seq)
        targets = np.array([p for p in masked.tolist() if p not in seq.logprobs], np.int32)[:ROWS]
        fed = seq.tokens.copy()
        fed[masked] = self.mask_token
        rows, pattern = targets - self.shift, self.traits.pattern
        return Window(0, seq.length, rows, targets, pattern, mark=Slot.APPROX, tokens=fed)

    def absorb(self, seq: Sequence, window: Window, update: Update) -> None:
        if seq.logprobs.keys() >= set(_masked(seq).tolist()):
            seq.scored = seq.prompt_length


def _masked(seq: Sequence) -> Ints:
    spans = [np.arange(start, end, dtype=np.int32) for start, end in seq.params.infill]
    return np.concatenate(spans)
