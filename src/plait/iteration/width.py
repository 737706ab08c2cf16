"""How many tokens to draft: as many as give the most tokens per second, perhaps none."""

from __future__ import annotations

from typing import NamedTuple

from plait.iteration.company import Company

FORGET = 0.9
"""How much of what was seen before the last draft still counts."""
PATIENCE = 4
"""So many widths in a row that are no better end the search: steps do not grow evenly."""


class Record(NamedTuple):
    """hits of trials: tokens that were right, of those that were reached; what is older counts less.

    stops: trials that ended because the proposer said nothing more; they cost no row in the forward.
    """

    hits: float
    trials: float
    stops: float = 0.0

    @property
    def rate(self) -> float:
        """The chance that a place of the draft is filled, and right, if those before it are."""
        return self.hits / self.trials

    @property
    def stay(self) -> float:
        """The chance that a place of the draft is filled, right or wrong."""
        return 1.0 - self.stops / self.trials

    def after(self, proposed: int, accepted: int, asked: int = 0, forget: float = FORGET) -> Record:
        """With one more draft. asked: tokens that were wanted of a proposer that pays for stopping before; else 0."""
        stopped = accepted == proposed < asked
        reached = min(accepted + 1, max(proposed, asked))
        hits, trials, stops = (forget * number for number in self)
        return Record(hits + accepted, trials + reached, stops + stopped)

    def weighing(self, trials: float) -> Record:
        """The same shares, counting for so many trials."""
        return Record(*(number * trials / self.trials for number in self))


class Plan(NamedTuple):
    """width: tokens to draft. gain: tokens per second, of plain decoding's. seconds: of the draft and the forward.
    tokens: that come of it. plain: seconds of a forward without a draft. draft: seconds of the draft alone."""

    width: int
    gain: float
    seconds: float
    tokens: float
    plain: float
    draft: float


def expected(rate: float, width: int) -> float:
    """Tokens that a verified draft of `width` gives, if each is right with this chance when those before it are."""
    return float(width + 1) if rate >= 1 else (1 - rate ** (width + 1)) / (1 - rate)


def planned(record: Record, width: int, company: Company, context: int, draft: float) -> Plan:
    """What a draft of `width` comes to, for one request in its company; draft: seconds of a drafted token."""
    others = company.num_running - 1
    plain = company.seconds(others + 1, context)
    if not width:
        return Plan(0, 1.0, plain, 1.0, plain, 0.0)
    rows = expected(record.stay, width) - 1
    asked = expected(record.stay, width - 1)
    # A step that was held up must not make a longer one seem the shorter: no draft gains more than its tokens.
    forward = max(plain, company.seconds(others + 1 + max(1, round(rows)), context))
    drafting = asked * draft
    seconds = forward + drafting
    tokens = expected(record.rate, width)
    gain = (others + tokens) / (others + 1) * plain / seconds
    return Plan(width, gain, seconds, tokens, plain, drafting)


def best(record: Record, most: int, company: Company, context: int, draft: float) -> Plan:
    """The best of the widths 1 to `most` >= 1; a gain below 1 says that none pays."""
    found = planned(record, 1, company, context, draft)
    for width in range(2, most + 1):
        plan = planned(record, width, company, context, draft)
        if plan.gain > found.gain:
            found = plan
        elif width > found.width + PATIENCE:
            break
    return found
