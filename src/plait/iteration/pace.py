"""How many prompt positions may ride along with running requests, from the measured cost of a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

LEAST = 1
"""Prompt positions that are always let in, because prompts must get on."""
MOST_DUE = 0.95


class StepTime(Protocol):
    """Seconds of a step, T(M)."""

    def predict(self, num_tokens: int, context: int, num_logits: int = 1) -> float:
        """Of one that feeds `num_tokens` positions behind `context` tokens each, on average."""
        ...


class Load(NamedTuple):
    """Positions to feed in one step, and the sum of the tokens that each of them has before it."""

    positions: int
    context: int


@dataclass(frozen=True, slots=True)
class Pace:
    """stretch: how many times as long a step may become by one prompt in it."""

    time: StepTime
    stretch: float

    def prompt_budget(
        self,
        streams: Load,
        num_streams: int,
        prompt_context: int,
        most: int,
        due: float = 0.0,
    ) -> int:
        """The most prompt positions, in chunks behind `prompt_context` tokens, that keep a step in its time.

        streams: what the `num_streams` >= 1 requests that wait for their next token feed. due: see `share_due`.
        """
        bound = max(self.stretch, 1 / (1 - due)) * self._seconds(streams, num_streams)
        low, high = min(LEAST, most), most
        while low < high:
            middle = (low + high + 1) // 2
            context = streams.context + middle * prompt_context
            if self._seconds(Load(streams.positions + middle, context), num_streams) <= bound:
                low = middle
            else:
                high = middle - 1
        return low

    def _seconds(self, load: Load, num_logits: int) -> float:
        return self.time.predict(load.positions, load.context // load.positions, num_logits)


def share_due(streams: Mapping[str, int], prompts: Mapping[str, int]) -> float:
    """The part of the time that prompts are due because many wait at once, at least 0 and below 1; by tenant.

    Of each tenant as large a part as its prompts are of its requests, the first prompt left out, and the mean of
    that over the tenants: to be held up for a few of one's own prompts pays as long as many more of them wait,
    and nobody loses more to another's prompts than one tenant's part. Small steps for the sake of a few streams
    would make everybody wait longer in the end.
    """
    tenants = streams.keys() | prompts.keys()
    parts = [
        max(0, prompts.get(tenant, 0) - 1) / (streams.get(tenant, 0) + prompts.get(tenant, 0))
        for tenant in tenants
    ]
    return min(sum(parts) / len(parts), MOST_DUE) if parts else 0.0
