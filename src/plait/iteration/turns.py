"""Turns: how many of a tenant's streams a step feeds, while others stream too.

A step is as long as all that it feeds, so a tenant with many streams makes every other wait for each of its
tokens. Each tenant may put work of the same worth into a step: the most with which the step takes at most
`SLACK` times as long as if no tenant had more than the median one has. Where more rows cost little that is much.
Who has more takes turns among its own streams. A tenant alone is not held back.

The worth of a stream is its part of a step in which all are like it, so one behind a long context weighs more. What
exceeds the allowance is paid back in later steps, and so a single stream, however heavy, goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from plait.iteration.base import Request
from plait.iteration.pace import Load, StepTime

SLACK = 1.1
ROUNDS = 12
"""Halvings that find the allowance."""


class Guess:
    """Where nothing has been measured: a step costs its rows and eight more, each 1,000 tokens of context a row."""

    def predict(self, num_tokens: int, context: int, num_logits: int = 1) -> float:
        return 8.0 + num_tokens * (1.0 + context / 1000)


@dataclass(slots=True)
class Share:
    """What the streams of a tenant feed, or of all. before: tokens before each position, summed up."""

    positions: float = 0.0
    before: float = 0.0
    streams: float = 0.0
    worth: float = 0.0

    def add(self, other: Share, part: float = 1.0) -> None:
        self.positions += part * other.positions
        self.before += part * other.before
        self.streams += part * other.streams
        self.worth += part * other.worth

    @property
    def load(self) -> Load:
        return Load(max(1, round(self.positions)), round(self.before))

    @property
    def num_streams(self) -> int:
        return max(1, round(self.streams))


class Turns:
    """begin, then `allows` and `spend` for every stream of the step in the order in which they were served."""

    def __init__(self) -> None:
        self._left: dict[str, float] = {}
        self._base = self._slope = 0.0

    def begin(self, streams: Sequence[tuple[Request, int]], time: StepTime) -> Share:
        """Those that want to feed so many positions each, one at least; returns what the step will feed of them."""
        if len({request.tenant for request, _ in streams}) < 2:
            self._left = {}
            return together(streams)
        shares = self._weigh(streams, time)
        allowance = fair_allowance(shares, time)
        self._left = {
            tenant: allowance + min(0.0, self._left.get(tenant, 0.0)) for tenant in shares
        }
        return capped(shares, allowance)

    def open(self) -> None:
        """Let everybody go on: nobody could."""
        self._left = {}

    def allows(self, request: Request) -> bool:
        return self._left.get(request.tenant, 1.0) > 0.0

    def spend(self, request: Request, count: int) -> None:
        """A stream takes part with `count` positions."""
        if request.tenant in self._left:
            self._left[request.tenant] -= self._worth(request, count)

    def _worth(self, request: Request, count: int) -> float:
        return count * (self._base + self._slope * request.seq.length)

    def _weigh(self, streams: Sequence[tuple[Request, int]], time: StepTime) -> dict[str, Share]:
        positions = sum(count for _, count in streams)
        mean = sum(count * r.seq.length for r, count in streams) // positions
        self._base = time.predict(positions, 0) / positions
        self._slope = (time.predict(positions, mean) / positions - self._base) / max(1, mean)
        shares: dict[str, Share] = {}
        for request, count in streams:
            share = Share(count, count * request.seq.length, 1, self._worth(request, count))
            shares.setdefault(request.tenant, Share()).add(share)
        return shares


def together(streams: Sequence[tuple[Request, int]]) -> Share:
    """What streams feed that want so many positions each; without its worth."""
    positions = before = 0
    for request, count in streams:
        positions += count
        before += count * request.seq.length
    return Share(positions, before, len(streams))


def fair_allowance(shares: Mapping[str, Share], time: StepTime) -> float:
    """The worth that every tenant may put into a step; at least what the median one has."""
    worths = sorted(share.worth for share in shares.values())
    low, high = worths[(len(worths) - 1) // 2], worths[-1]
    bound = SLACK * _seconds(capped(shares, low), time)
    if _seconds(capped(shares, high), time) <= bound:
        return high
    for _ in range(ROUNDS):
        middle = (low + high) / 2
        if _seconds(capped(shares, middle), time) <= bound:
            low = middle
        else:
            high = middle
    return low


def capped(shares: Mapping[str, Share], allowance: float) -> Share:
    """What all tenants feed when none may feed more than `allowance` is worth."""
    total = Share()
    for share in shares.values():
        total.add(share, min(1.0, allowance / share.worth) if share.worth > allowance else 1.0)
    return total


def _seconds(share: Share, time: StepTime) -> float:
    positions, before = share.load
    return time.predict(positions, before // positions, share.num_streams)
