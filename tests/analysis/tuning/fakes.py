"""Landscapes without a server: what a made-up machine would answer."""

from __future__ import annotations

from math import sin

from plait.analysis.tuning.landscape import Landscape
from plait.analysis.tuning.objective import Answer, Measure
from plait.analysis.tuning.space import Settings, Space

SPACE = Space(
    ("max_num_seqs", "max_num_batched_tokens", "enable_prefix_caching"),
    ((2, 4, 8, 16, 32, 64, 128), (64, 128, 256, 0, 1024, 2048), (False, True)),
    (64, 0, True),
)
SETUP = {"bench": "tune", "model": "m"}


def rate(settings: Settings) -> float:
    """Tokens per second: best at (8, 1024, True), with ripples on the way there."""
    seqs, tokens, cached = SPACE.places(settings)
    return (
        400 - 6 * (seqs - 2) ** 2 - 5 * (tokens - 4) ** 2 + 8 * cached + 3 * sin(5 * seqs + tokens)
    )


def measure(tokens_per_second: float, seed: int = 0) -> Measure:
    """Two answers of 50 tokens."""
    end = 100 / tokens_per_second
    answers = tuple(Answer(0.0, 0.0, 0.1 * end, end, end, 7, 50) for _ in range(2))
    return Measure(seed, answers)


def landscape() -> Landscape:
    """Everything measured once, the default first."""
    land = Landscape(dict(SETUP), SPACE)
    for settings in (SPACE.base, *SPACE.points()):
        if settings not in land.trials:
            land.add(settings, measure(rate(settings)))
    return land
