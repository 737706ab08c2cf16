"""How many tokens to draft: as many as give the most tokens per second, perhaps none."""

from __future__ import annotations

from typing import NamedTuple

from plait.iteration.company import Company

FORGET = 0.9
"""How much of what was seen before the last draft still counts."""


class Record(NamedTuple):
    """hits of trials: drafted tokens that were right, of those that were reached; what is older counts less."""

    hits: float
    trials: float

    @property
    def rate(self) -> float:
        return self.hits / self.trials

    def after(self, proposed: int, accepted: int) -> Record:
        """With one more draft."""
        reached = min(accepted + 1, proposed)
        return Record(FORGET * self.hits + accepted, FORGET * self.trials + reached)


def expected(rate: float, width: int) -> float:
    """Tokens that a verified draft of `width` gives, if each is right with this chance when those before it are."""
    return float(width + 1) if rate >= 1 else (1 - rate ** (width + 1)) / (1 - rate)


def best_width(rate: float, most: int, company: Company, context: int, draft: float) -> int:
    """The width, 0 to `most`, for one request in its company; draft: seconds that a drafted token takes."""
    others = company.num_running - 1

    def speed(width: int) -> float:
        seconds = company.seconds(others + 1 + width, context) + width * draft
        return (others + expected(rate, width)) / seconds

    return max(range(most + 1), key=speed)
