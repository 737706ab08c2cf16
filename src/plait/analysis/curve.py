"""What is said of shares, waiting times and of accuracy against parallelism."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, exp, sqrt

Z = 1.959964
"""Of the normal distribution, for an interval of 95%."""
STEEPNESS = 3.0


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 95% interval of a share (Wilson 1927), for trials >= 1."""
    share, spread = successes / trials, Z * Z / trials
    centre = share + spread / 2
    reach = Z * sqrt(share * (1 - share) / trials + spread / trials / 4)
    low, high = (centre - reach) / (1 + spread), (centre + reach) / (1 + spread)
    return max(0.0, low), min(1.0, high)


def percentile(values: Sequence[float], percent: float) -> float:
    """The least of the values that so many percent of them do not exceed (nearest rank)."""
    ranked = sorted(values)
    return ranked[max(0, ceil(percent / 100 * len(ranked)) - 1)]


def area(points: Sequence[tuple[float, float]], best: float) -> float:
    """One number for a curve of (tokens per forward, accuracy), after the AUP score of hao-ai-lab: the area below
    accuracy weighted by exp(-3 (1 - accuracy / best)), so that speed bought with errors counts for little.

    best: the highest accuracy that anything reached with these weights. The curve begins at 0 tokens per forward,
    as accurate as its slowest point; of points with the same speed the more accurate one counts.
    """
    if not points or best <= 0:
        return 0.0
    curve = sorted(dict(sorted(points)).items())
    weighted = [(x, y * exp(-STEEPNESS * (1 - y / best))) for x, y in curve]
    total, (last_x, last_y) = 0.0, (0.0, weighted[0][1])
    for x, y in weighted:
        total += (x - last_x) * (y + last_y) / 2
        last_x, last_y = x, y
    return total
