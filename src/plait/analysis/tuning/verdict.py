"""Whether settings are better on loads that they were not chosen by, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf, log, sqrt
from statistics import mean, stdev

from plait.analysis.tuning.landscape import Round
from plait.analysis.tuning.objective import Objective

STUDENT = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093),
)
"""Student's t for a two-sided 95% interval with 1, 2, ... degrees of freedom."""
MOST_ROUNDS = len(STUDENT) + 1


@dataclass(frozen=True, slots=True)
class Verdict:
    """gains: per round, how many times better; those of rounds with a failure are left out.

    gain: their geometric mean, 1 for none. low, high: its 95% interval (Student's t over the logarithms).
    failures: rounds in which the tuned server did not answer everything.
    """

    gains: tuple[float, ...]
    gain: float
    low: float
    high: float
    failures: int

    @property
    def is_better(self) -> bool:
        """Whether the interval lies above 1 and nothing failed."""
        return self.low > 1 and not self.failures


def verdict(rounds: Sequence[Round], objective: Objective) -> Verdict:
    """Of all rounds; the two loads of a round are the same, so that their quotient is what counts."""
    found = [
        objective.gain(objective.value(one.default), objective.value(one.tuned)) for one in rounds
    ]
    gains = tuple(one for one in found if one is not None)
    failures = sum(objective.value(one.tuned) is None for one in rounds)
    logarithms = [log(one) for one in gains]
    middle = mean(logarithms) if gains else 0.0
    if len(gains) < 2:
        return Verdict(gains, exp(middle), 0.0, inf, failures)
    half = STUDENT[len(gains) - 2] * stdev(logarithms) / sqrt(len(gains))
    return Verdict(gains, exp(middle), exp(middle - half), exp(middle + half), failures)
