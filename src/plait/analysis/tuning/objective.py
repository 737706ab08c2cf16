"""What of a measured load is to become better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import isfinite
from typing import NamedTuple

import numpy as np

from plait.analysis.load import Sample
from plait.core.errors import UserError

SHARES = (50, 90, 95, 99)


class Answer(NamedTuple):
    """Raw times of one complete answer in seconds after its load began, and the server's count of tokens."""

    due: float
    began: float
    first: float
    last: float
    ended: float
    prompt_tokens: int
    tokens: int

    @property
    def each(self) -> float | None:
        """Seconds per token after the first; None where it cannot be told."""
        return (self.last - self.first) / (self.tokens - 1) if self.last > self.first else None


@dataclass(frozen=True, slots=True)
class Measure:
    """A load as one server answered it. seed: of the load. errors: kind -> how many answers were none.

    load_average: of the machine before it began.
    """

    seed: int
    answers: tuple[Answer, ...]
    errors: dict[str, int] = field(default_factory=dict)
    load_average: float = 0.0

    def __post_init__(self) -> None:
        """Raises ValueError for what cannot have been measured."""
        for one in self.answers:
            in_order = one.due <= one.first <= one.last <= one.ended
            if not in_order or not all(map(isfinite, one)) or one.tokens < 1:
                raise ValueError(f"an answer with the times {one[:5]} and {one.tokens} tokens")

    @property
    def seconds(self) -> float:
        """From the beginning to the last answer."""
        return max((one.ended for one in self.answers), default=0.0)


def measured(seed: int, samples: list[Sample], load_average: float) -> Measure:
    """What the load generator saw."""
    errors: dict[str, int] = {}
    answers = []
    for one in samples:
        if kind := f"{one.error} {one.said}".strip() or ("" if one.times else "empty"):
            errors[kind] = errors.get(kind, 0) + 1
            continue
        times = (one.due, one.began, one.times[0], one.times[-1], one.ended)
        due, began, first, last, ended = (round(time, 5) for time in times)
        answers.append(Answer(due, began, first, last, ended, one.prompt_tokens, one.tokens))
    return Measure(seed, tuple(answers), errors, load_average)


@dataclass(frozen=True, slots=True)
class Objective:
    """name: one of `NAMES`. goal: seconds to the first token and per further token that count as good."""

    name: str
    goal: tuple[float, float] = (1.0, 0.1)

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise UserError(f"{self.name!r} is no objective", f"one of {', '.join(NAMES)}")

    @property
    def is_time(self) -> bool:
        """Whether less is better."""
        return self.name not in _RATES

    @property
    def words(self) -> str:
        """What the numbers are."""
        if self.name == "goodput":
            first, each = self.goal
            return f"requests/s with the first token within {first:g} s and {each:g} s per further token"
        return "tokens/s" if self.name == "throughput" else "milliseconds"

    def value(self, measure: Measure) -> float | None:
        """Of one load; None where a request was not answered: nobody wants to be fast that way."""
        if measure.errors or not measure.answers:
            return None
        if self.name in _RATES:
            return _RATES[self.name](measure, self.goal)
        share, kind = self.name.split("-")
        times = [time for one in measure.answers if (time := _TIMES[kind](one)) is not None]
        return 1e3 * float(np.percentile(times, int(share[1:]))) if times else None

    def gain(self, before: float | None, after: float | None) -> float | None:
        """How many times better; below 1 for a loss, None where it cannot be said."""
        if not before or not after:
            return None
        return before / after if self.is_time else after / before


def _throughput(measure: Measure, goal: tuple[float, float]) -> float:
    return sum(one.tokens for one in measure.answers) / measure.seconds


def _goodput(measure: Measure, goal: tuple[float, float]) -> float:
    good = [
        one
        for one in measure.answers
        if one.first - one.due <= goal[0] and (one.each or 0) <= goal[1]
    ]
    return len(good) / measure.seconds


_RATES = {"goodput": _goodput, "throughput": _throughput}
_TIMES: dict[str, Callable[[Answer], float | None]] = {
    "ttft": lambda one: one.first - one.due,
    "tpot": lambda one: one.each,
    "latency": lambda one: one.ended - one.due,
}
NAMES = (*_RATES, *(f"p{share}-{kind}" for kind in _TIMES for share in SHARES))
