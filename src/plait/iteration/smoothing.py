"""Iteration smoothing, an input wrapper of the planners for masked models (dInfer's soft diffusion).

What a forward said of a position that stays open, of the block at work, is fed back in the next one: to the
embedding of the mask token is added c times the mixture of token embeddings by their probabilities. c grows with
every step of the request, from `smoothing_start` by `smoothing_growth` up to `smoothing`. Only the
`smoothing_tokens` most probable tokens enter, with their probabilities as they are, so that it costs a few rows of
the table and no product with all of it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from plait.core.errors import UserError
from plait.core.sequence import Sequence
from plait.core.window import Soft

SOFT = "soft"
"""What a step left in `seq.scratch`: positions int32 [m], tokens int32 [m, k], probabilities float32 [m, k]."""


@dataclass(frozen=True, slots=True)
class Options:
    """smoothing: the largest weight of what the step before said, 0 for none.

    smoothing_start, smoothing_growth: the weight at the first step, and what each step adds.
    smoothing_tokens: how many of the most probable tokens enter.
    """

    smoothing: float = 0.0
    smoothing_start: float = 0.15
    smoothing_growth: float = 0.02
    smoothing_tokens: int = 8

    def __post_init__(self) -> None:
        for name in ("smoothing", "smoothing_start", "smoothing_growth"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(f"{name}={getattr(self, name)!r} is out of range", "from 0 to 1")
        if not 1 <= self.smoothing_tokens <= 64:
            count = self.smoothing_tokens
            raise UserError(f"smoothing_tokens={count} is out of range", "from 1 to 64")
        if self.smoothing == 0.0:
            self._refuse_idle()

    def _refuse_idle(self) -> None:
        for own in fields(Options):
            if getattr(self, own.name) != own.default:
                raise UserError(f"{own.name} has no meaning with smoothing=0", "give smoothing too")

    @property
    def remembered(self) -> int:
        """How many probabilities a window has to ask for."""
        return self.smoothing_tokens if self.smoothing > 0.0 else 0


def soft_input(options: Options, seq: Sequence, start: int, end: int, steps: int) -> Soft | None:
    """For a window [start, end) of a request that has had `steps` steps; None if there is nothing to add."""
    if not options.remembered or SOFT not in seq.scratch:
        return None
    positions, tokens, weights = seq.scratch[SOFT]
    is_fed = (positions >= start) & (positions < end)
    is_fed[is_fed] = seq.masked[positions[is_fed]]
    if not is_fed.any():
        return None
    grown = options.smoothing_start + options.smoothing_growth * (steps - 1)
    weight = np.float32(min(options.smoothing, grown))
    return Soft(positions[is_fed] - start, tokens[is_fed], weights[is_fed] * weight)
