"""A smaller model with the same vocabulary goes ahead, as long as it is sure of itself (LLMCad, arXiv:2309.04255).

It stops where the chance that all of its tokens are right, as it sees it, falls below a threshold that adjusts
itself to each request: everything accepted lowers it, an early refusal raises it.
"""

from __future__ import annotations

from plait.core.errors import UserError
from plait.core.sequence import Sequence
from plait.proposers import base
from plait.proposers.base import NO_PROPOSAL, Proposal, Resources, chain

SUMMARY = "what a smaller model with the same vocabulary says"

FIRST_THRESHOLD = 0.25
LOWEST, HIGHEST = 0.02, 0.9
STEP = 1.15


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
        """One branch: a second way to go on would need forwards of its own."""
        threshold = seq.memo.get("draft_threshold", FIRST_THRESHOLD)
        tokens = self._drafter.draft(seq, most, threshold)
        return chain(tokens) if tokens else NO_PROPOSAL

    def learn(self, seq: Sequence, proposed: int, accepted: int) -> None:
        threshold = seq.memo.get("draft_threshold", FIRST_THRESHOLD)
        factor = 1 / STEP if accepted == proposed else STEP if 2 * accepted < proposed else 1.0
        seq.memo["draft_threshold"] = min(HIGHEST, max(LOWEST, threshold * factor))
