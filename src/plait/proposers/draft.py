"""A smaller model with the same vocabulary goes ahead, as long as it is sure of itself (LLMCad, arXiv:2309.04255).

It adds to a tree the token that is likeliest, as it sees it, to be reached and right; for a request that takes one way
only, that is what it would say itself. It stops where that chance falls below a threshold that adjusts itself to each
request: everything accepted lowers it, an early refusal raises it.
"""

from __future__ import annotations

from plait.core.errors import UserError
from plait.core.sequence import Sequence
from plait.proposers import base, growth
from plait.proposers.base import Proposal, Resources

SUMMARY = "what a smaller model with the same vocabulary says"


class Proposer(base.Proposer):
    """Needs a draft model."""

    def __init__(self, resources: Resources) -> None:
        super().__init__(resources)
        if resources.drafter is None:
            raise UserError(
                "the proposer 'draft' needs a draft model, and none is loaded",
                "start with --proposer draft:MODEL, or use 'lookahead'",
            )
        self._drafter = resources.drafter

    @property
    def seconds(self) -> float:
        return self._drafter.seconds

    def catch_up_seconds(self, seq: Sequence) -> float:
        return self._drafter.catch_up_seconds(seq)

    def propose(self, seq: Sequence, most: int, branches: int = 1) -> Proposal:
        def children(path: tuple[int, ...]) -> list[tuple[int, float]]:
            return self._drafter.follow(seq, path, branches)

        return growth.grown(seq, children, most, branches)

    def learn(self, seq: Sequence, proposed: int, accepted: int) -> None:
        growth.adjust(seq, accepted)
