"""Further heads on the model's last hidden state say what comes after its next token (Medusa, arXiv:2401.10774).

Each head speaks for one place and knows nothing of what the others chose, so any of its tokens may follow any of those
before it: the tree is that of the likeliest products of their probabilities.
"""

from __future__ import annotations

from plait.core.errors import UserError
from plait.core.sequence import Sequence
from plait.proposers import base
from plait.proposers.base import Proposal, Resources
from plait.proposers.growth import likeliest, proposal

SUMMARY = "what further heads of the model itself say, trained for it"


class Proposer(base.Proposer):
    """Needs heads."""

    def __init__(self, resources: Resources) -> None:
        super().__init__(resources)
        if resources.heads is None:
            raise UserError(
                "the proposer 'heads' needs heads, and none are loaded",
                "start with --proposer heads:FILE (safetensors), or use 'lookahead'",
            )
        self._heads = resources.heads

    @property
    def seconds(self) -> float:
        return self._heads.seconds

    def propose(self, seq: Sequence, most: int, branches: int = 1) -> Proposal:
        levels = self._heads.levels(seq, most, branches)

        def children(path: tuple[int, ...]) -> list[tuple[int, float]]:
            return levels[len(path)] if len(path) < len(levels) else []

        return proposal(likeliest(children, most, branches))

    def learn(self, seq: Sequence, proposed: int, accepted: int) -> None:
        """There is nothing to adjust."""
