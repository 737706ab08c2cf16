"""What a request takes when nothing else runs: T(p, o) = prefill(p) + per-token(o), fitted to lone requests.

The idealised runtime of a request that was measured under load is T of its lengths: contention is left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from plait.analysis.load import Generator
from plait.analysis.load_client import Address
from plait.analysis.workload import Load
from plait.core.errors import UserError

TERMS = (
    "once",
    "per_prompt_token",
    "per_prompt_token_squared",
    "per_token",
    "per_token_of_context",
)
PROMPTS = (16, 64, 160, 320, 512)
ANSWERS = (2, 12, 32, 64)


@dataclass(frozen=True, slots=True)
class Point:
    """One request: tokens of its prompt and answer, and seconds from its beginning to its end."""

    prompt_tokens: int
    tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Cost:
    """coefficients: seconds for each of TERMS."""

    coefficients: tuple[float, ...]

    def seconds(self, points: list[Point]) -> np.ndarray:
        """Of each request alone, float64 [points]."""
        found: np.ndarray = _terms(points) @ np.array(self.coefficients)
        return found

    def prefill(self, prompt_tokens: int) -> float:
        """Seconds to the first token."""
        return float(self.seconds([Point(prompt_tokens, 1, 0.0)])[0])


def fit(points: list[Point]) -> Cost:
    """Least squares of the relative error. Raises UserError when the points do not tell the terms apart."""
    scale = np.array([point.seconds for point in points])
    terms = _terms(points)
    if len(points) <= len(TERMS) or np.linalg.matrix_rank(terms) < len(TERMS):
        raise UserError(
            f"{len(points)} measured requests do not settle {len(TERMS)} coefficients",
            "at least three lengths of prompts and three of answers",
        )
    found = np.linalg.lstsq(terms / scale[:, None], np.ones(len(points)), rcond=None)[0]
    return Cost(tuple(found.tolist()))


def left_out(points: list[Point]) -> np.ndarray:
    """What the fit to all others says of each point, seconds [points]."""
    others = [[*points[:place], *points[place + 1 :]] for place in range(len(points))]
    return np.array([fit(rest).seconds([one])[0] for rest, one in zip(others, points, strict=True)])


def errors(points: list[Point], predicted: np.ndarray) -> dict[str, float]:
    """R² and relative errors of a prediction."""
    measured = np.array([point.seconds for point in points])
    relative = np.abs(predicted / measured - 1)
    rest, all_of_it = ((measured - predicted) ** 2).sum(), ((measured - measured.mean()) ** 2).sum()
    return {
        "points": len(points),
        "r_squared": float(1 - rest / all_of_it),
        "median_error": float(np.median(relative)),
        "largest_error": float(relative.max()),
    }


def denoised(cost: Cost, points: list[Point]) -> dict[str, Any]:
    """Requests of a load beside what each takes alone. stretch: how many times longer it took."""
    alone = cost.seconds(points)
    measured = np.array([point.seconds for point in points])
    stretch = measured / alone
    return {
        "measured_seconds": float(measured.sum()),
        "ideal_seconds": float(alone.sum()),
        "stretch": {"p50": float(np.median(stretch)), "max": float(stretch.max())},
        "requests": [
            {
                "prompt_tokens": point.prompt_tokens,
                "tokens": point.tokens,
                "seconds": point.seconds,
                "ideal_seconds": ideal,
            }
            for point, ideal in zip(points, alone.tolist(), strict=True)
        ],
    }


def recorded(record: dict[str, Any]) -> list[Point]:
    """The complete answers in a record of `plait bench serve`. Raises UserError for a file without."""
    try:
        points = [
            Point(one["prompt_tokens"], one["tokens"], one["ended"] - one["began"])
            for one in record["answers"]
            if one["prompt_tokens"] and one["tokens"]
        ]
    except (LookupError, TypeError):
        points = []
    if not points:
        raise UserError("no request with its lengths is recorded", "a file of bench serve --out")
    return points


def grid() -> list[tuple[int, int]]:
    """Words of the prompt and tokens of the answer that are measured: 20 pairs."""
    return [(words, tokens) for words in PROMPTS for tokens in ANSWERS]


def between(count: int, seed: int) -> list[tuple[int, int]]:
    """As many pairs at random within the grid, to test the fit with."""
    random = np.random.default_rng(seed)
    words = random.integers(PROMPTS[0], PROMPTS[-1], count, endpoint=True).tolist()
    tokens = random.integers(ANSWERS[0], ANSWERS[-1], count, endpoint=True).tolist()
    return list(zip(words, tokens, strict=True))


def measure(
    address: Address,
    model: str,
    pairs: Iterable[tuple[int, int]],
    seed: int,
    patience: float = 120.0,
) -> list[Point]:
    """One request after the other, nothing beside it. Raises UserError when one is not answered."""
    points = []
    for place, (words, tokens) in enumerate(pairs):
        load = Load(1, concurrency=1, prompt_words=words, tokens=tokens, seed=seed + place)
        (sample,) = Generator(address, model, load, patience).run()
        if sample.error or not sample.prompt_tokens:
            said = sample.error or "its lengths were not told"
            raise UserError(f"a request of {words} words was not measured: {said}", sample.said)
        seconds = sample.ended - sample.began
        points.append(Point(sample.prompt_tokens, sample.tokens, seconds))
    return points


def _terms(points: list[Point]) -> np.ndarray:
    """float64 [points, TERMS]. A further token reads the prompt and all tokens before it."""
    prompt = np.array([point.prompt_tokens for point in points], np.float64)
    more = np.array([point.tokens - 1 for point in points], np.float64)
    context = more * (prompt + (more + 1) / 2)
    return np.stack([np.ones_like(prompt), prompt, prompt**2, more, context], axis=1)
