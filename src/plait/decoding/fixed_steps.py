"""Decide a block in a fixed number of steps (LLaDA, arXiv:2502.09992; Dream, arXiv:2508.15487).

Of a block of m open positions every step decides m / steps, and each of the first m modulo steps one more, as
LLaDA's sampler does. With a timestep shift s, m t(1 - k / steps) are left open after step k, rounded down, where
t(u) = s u / (1 + (s - 1) u): s above 1 decides few positions at first and many at the end, below 1 the other way
round. Every step writes at least one.

Those go first whose score is best: "confidence" is the probability of the proposed token (as in
decoding/threshold.py), "margin" that of the best token minus that of the second, "entropy" is the lowest
entropy, "random" the order of random numbers. With a temperature on positions T they are drawn without
replacement, by softmax(score / T): the best of score / T + Gumbel noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from plait.core.errors import UserError
from plait.core.window import Update
from plait.decoding import base, rows, scores
from plait.decoding.base import Item, Rows
from plait.decoding.scores import Doubles
from plait.kernels.sampling import Choices

SUMMARY = "a fixed number of steps per block, the best-scored positions first"

SCORES = ("confidence", "margin", "entropy", "random")


@dataclass(frozen=True, slots=True)
class Options:
    """steps: for a block; not given: one for each position. score: confidence, margin, entropy or random.

    position_temperature: 0 takes the best, else 1e-6 or more. shift: of the timesteps.
    """

    steps: int | None = None
    score: str = "confidence"
    position_temperature: float = 0.0
    shift: float = 1.0

    def __post_init__(self) -> None:
        if self.steps is not None and not 1 <= self.steps <= 10_000:
            raise UserError(f"steps={self.steps} is out of range", "from 1 to 10000")
        if self.score not in SCORES:
            raise UserError(f"score={self.score!r} is not known", f"one of: {', '.join(SCORES)}")
        if self.position_temperature and not 1e-6 <= self.position_temperature <= 100.0:
            given = self.position_temperature
            raise UserError(
                f"position_temperature={given!r} is out of range", "0, or from 1e-6 to 100"
            )
        if not 0.001 <= self.shift <= 1000.0:
            raise UserError(f"shift={self.shift!r} is out of range", "from 0.001 to 1000")


class Decoder(base.Decoder):
    """Writes as many of the open targets as the schedule says."""

    options: Options

    @property
    def is_guided(self) -> bool:
        return self.options.score in ("confidence", "random")

    def decide_all(self, items: list[Item]) -> list[Update | Exception]:
        return rows.decide_all(items, self.traits, self.threads, self._write, want_confidence=True)

    def _write(self, part: Rows, choices: Choices) -> Update:
        count = due(self.options.steps, self.options.shift, scores.opened(part), len(part.targets))
        score = self._noisy(part, self._scores(part, choices))
        chosen = np.zeros(len(score), np.bool_)
        chosen[np.argsort(-score, kind="stable")[:count]] = True
        return rows.written(part, choices, chosen)

    def _scores(self, part: Rows, choices: Choices) -> Doubles:
        if self.options.score == "margin":
            return scores.margins(part.logits, self.traits)
        if self.options.score == "entropy":
            return -scores.entropies(part.logits, self.traits)
        if self.options.score == "random":
            return scores.uniforms(part.seq, part.targets, 0)
        return choices.confidence

    def _noisy(self, part: Rows, score: Doubles) -> Doubles:
        temperature = self.options.position_temperature
        if not temperature:
            return score
        drawn = scores.uniforms(part.seq, part.targets, len(part.targets))
        return np.asarray(score / temperature - np.log(-np.log(np.maximum(drawn, 2.0**-54))))


def due(steps: int | None, shift: float, opened: int, left: int) -> int:
    """How many of the `left` positions of a block of `opened` the next step decides."""
    if steps is None:
        steps = opened

    def open_after(step: int) -> int:
        if shift == 1.0:
            return opened - step * (opened // steps) - min(step, opened % steps)
        u = 1.0 - step / steps
        return math.floor(opened * shift * u / (1.0 + (shift - 1.0) * u) + 1e-9)

    return left - next(rest for step in range(1, steps + 1) if (rest := open_after(step)) < left)
