"""A load for a server: which requests, and when each begins. The same seed gives the same load."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from plait.core.errors import UserError

MOST_REQUESTS = 100_000
_TEXT = (
    "time year people way day man thing woman life child world school state family student group "
    "country problem hand part place case week company system program question work government "
    "number night point home water room mother area money story fact month lot right study book "
    "eye job word business issue side kind head house service friend father power hour game line"
)
WORDS = _TEXT.split()
"""Frequent English words: with the space before it, a token each in the usual vocabularies."""


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
        if (self.rate > 0) == (self.concurrency > 0):
            raise UserError("a load has either a rate or a concurrency", "give one of the two")
        if min(self.requests, self.turns) < 1 or self.requests * self.turns > MOST_REQUESTS:
            raise UserError(
                f"{self.requests} requests of {self.turns} turns",
                f"at least one of both, and {MOST_REQUESTS} turns in all at most",
            )
        if not 0 <= self.spread < 1:
            raise UserError(f"a spread of {self.spread}", "from 0 up to, but not including, 1")


@dataclass(frozen=True, slots=True)
class Ask:
    """prompts: text, one per turn. tokens: length of an answer. at: seconds after the beginning; 0 in a closed loop."""

    prompts: tuple[str, ...]
    tokens: int
    at: float


def plan(load: Load) -> list[Ask]:
    """Every request of a load, in the order in which they begin. Raises UserError for none at all."""
    random = np.random.default_rng(load.seed)
    prefix = " ".join(_words(random, load.prefix_words))
    starts = arrivals(load, random) if load.rate else np.zeros(load.requests)
    kept = starts[starts <= load.seconds]
    if not len(kept):
        raise UserError(
            f"no request is due within {load.seconds:g} s at {load.rate:g} per second",
            "more seconds, or a higher rate",
        )
    words = _lengths(random, load.prompt_words, load.spread, len(kept) * load.turns)
    tokens = _lengths(random, load.tokens, load.spread, len(kept))
    texts = [" ".join(["", *_words(random, count)]) for count in words]
    turns = [texts[first : first + load.turns] for first in range(0, len(texts), load.turns)]
    return [
        Ask((prefix + first, *rest), answer, at)
        for (first, *rest), answer, at in zip(turns, tokens, kept.tolist(), strict=True)
    ]


def arrivals(load: Load, random: np.random.Generator) -> np.ndarray:
    """Seconds from the beginning to each arrival, float64 [load.requests]; the gaps are Gamma distributed."""
    if load.variation == 0:
        gaps = np.full(load.requests, 1 / load.rate)
    else:
        shape = load.variation**-2
        gaps = random.gamma(shape, 1 / (shape * load.rate), load.requests)
    return np.cumsum(gaps)


def _lengths(random: np.random.Generator, mean: int, spread: float, count: int) -> list[int]:
    widest = int(mean * spread)
    lengths: list[int] = random.integers(
        mean - widest, mean + widest, count, endpoint=True
    ).tolist()
    return lengths


def _words(random: np.random.Generator, count: int) -> list[str]:
    return [WORDS[place] for place in random.integers(0, len(WORDS), count)]
