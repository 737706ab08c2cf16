"""What a load is made of. Apart from its plan, for the command line has to be there at once."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from plait.core.errors import UserError

MOST_REQUESTS = 100_000


@dataclass(frozen=True, slots=True)
class Load:
    """requests, seconds: none begins after either. seed: of prompts, lengths and arrivals.

    rate: requests per second that arrive whatever the server does (open loop); 0 for concurrency.
    variation: coefficient of variation of the times between arrivals: 1 is a Poisson process, more comes in
    bursts, 0 is a clock. concurrency: requests that are always under way, the next beginning when one ends
    (closed loop); 0 for rate. prompt_words, tokens: length of each prompt and answer, varying evenly by
    `spread` of it to both sides. prefix_words: first words that all prompts have in common, besides.
    turns: with more than one, each request is a conversation of so many; a turn adds a prompt to what was said
    and begins when the answer before it has ended.

    One without a rate and a concurrency is not complete: no plan is made of it.
    """

    requests: int = 100
    seconds: float = 60.0
    rate: float = 0.0
    variation: float = 1.0
    concurrency: int = 0
    prompt_words: int = 128
    prefix_words: int = 0
    tokens: int = 64
    spread: float = 0.0
    turns: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("requests", 1, MOST_REQUESTS),
            ("turns", 1, MOST_REQUESTS),
            ("seconds", 0, inf),
            ("rate", 0, inf),
            ("variation", 0, 100),
            ("concurrency", 0, MOST_REQUESTS),
            ("prompt_words", 1, 1 << 20),
            ("prefix_words", 0, 1 << 20),
            ("tokens", 1, 1 << 20),
            ("seed", 0, 1 << 62),
        ):
            if not low <= getattr(self, name) <= high:
                raise UserError(
                    f"{name}={getattr(self, name)!r} is out of range", f"{low} to {high}"
                )
        if self.rate > 0 and self.concurrency > 0:
            raise UserError("a load has either a rate or a concurrency", "give one of the two")
        if self.requests * self.turns > MOST_REQUESTS:
            raise UserError(
                f"{self.requests} requests of {self.turns} turns",
                f"{MOST_REQUESTS} turns in all at most",
            )
        if not 0 <= self.spread < 1:
            raise UserError(f"a spread of {self.spread}", "from 0 up to, but not including, 1")
