"""The model itself, in the mode in which it was trained to decide whole blocks, says what it will say left to right.

One forward over a block of masked positions guesses them all; the same weights then verify the guesses as they decide
token by token. Only for models that were trained in both modes. Each place is guessed without knowing what was chosen
for the others, so a tree is that of the likeliest products of their probabilities.
"""

from __future__ import annotations

from plait.core.errors import UserError
from plait.core.sequence import Sequence
from plait.proposers import base, growth
from plait.proposers.base import Proposal, Resources

SUMMARY = "what the model itself says of a block of masked positions, for models of both modes"


class Proposer(base.Proposer):
    """Needs a model of both modes."""

    def __init__(self, resources: Resources) -> None:
        super().__init__(resources)
        if resources.blocks is None:
            raise UserError(
                "the proposer 'self' needs a model that decides blocks as well, and an engine that was started with it",
                "start with --proposer self and a model such as trimode, or use 'lookahead'",
            )
        self._blocks = resources.blocks

    @property
    def seconds(self) -> float:
        return self._blocks.seconds

    def propose(self, seq: Sequence, most: int, branches: int = 1) -> Proposal:
        levels = self._blocks.levels(seq, most, branches)

        def children(path: tuple[int, ...]) -> list[tuple[int, float]]:
            return levels[len(path)] if len(path) < len(levels) else []

        return growth.grown(seq, children, most, branches)

    def learn(self, seq: Sequence, proposed: int, accepted: int) -> None:
        growth.adjust(seq, accepted)
