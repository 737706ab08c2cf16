"""Nothing is proposed: plain decoding."""

from __future__ import annotations

from plait.core.sequence import Sequence
from plait.proposers import base
from plait.proposers.base import NO_PROPOSAL, Proposal

SUMMARY = "plain decoding, one token per forward"


class Proposer(base.Proposer):
    """Has no opinion."""

    def propose(self, seq: Sequence, most: int, branches: int = 1) -> Proposal:
        return NO_PROPOSAL

    def learn(self, seq: Sequence, proposed: int, accepted: int) -> None:
        """There is nothing to adjust."""
