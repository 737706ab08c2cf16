"""A load for a server: which requests, and when each begins. The same seed gives the same load."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from plait.analysis.workload import Load
from plait.core.errors import UserError

_TEXT = (
    "time year people way day man thing woman life child world school state family student group "
    "country problem hand part place case week company system program question work government "
    "number night point home water room mother area money story fact month lot right study book "
    "eye job word business issue side kind head house service friend father power hour game line"
)
WORDS = _TEXT.split()
"""Frequent English words: with the space before it, a token each in the usual vocabularies."""


@dataclass(frozen=True, slots=True)
class Ask:
    """prompts: text, one per turn. tokens: length of an answer. at: seconds after the beginning; 0 in a closed loop."""

    prompts: tuple[str, ...]
    tokens: int
    at: float


def plan(load: Load) -> list[Ask]:
    """Every request of a load, in the order in which they begin. Raises UserError for none at all."""
    if not load.rate and not load.concurrency:
        raise UserError("how much load?", "give --rate or --concurrency")
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
