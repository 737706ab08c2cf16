"""Decoders at equal accuracy: the tokens per forward that each reaches while no more than so many points are lost.

Every decoder is tried with as many settings as the others; its curve begins with the surest position alone in every
step, which all of them can do. Between two settings the curve is a line. The intervals are of a bootstrap over the
questions, the same draws for all decoders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plait import LLM
from train.asking import Outcomes, Question, Way, outcomes

Floats = NDArray[np.float64]
LOSSES = (1.0, 3.0)
"""Points of accuracy that may be lost."""
DRAWS = 1000
BASE = "threshold"
SETTINGS: Mapping[str, Sequence[Mapping[str, str]]] = {
    BASE: [{"threshold": t} for t in ("0.8", "0.9", "0.95", "0.98", "0.99", "0.999")],
    "hierarchical": [
        {"low_threshold": low, "threshold": high}
        for low, high in (
            ("0.5", "0.9"),
            ("0.7", "0.95"),
            ("0.9", "0.99"),
            ("0.95", "0.99"),
            ("0.95", "0.999"),
            ("0.99", "0.999"),
        )
    ],
    "credit(threshold)": [
        {"threshold": t} for t in ("0.9", "0.95", "0.98", "0.99", "0.995", "0.999")
    ],
}


def compare(
    llm: LLM, questions: Sequence[Question], whole: Mapping[str, str], temperature: float
) -> dict[str, Any]:
    """A row for every decoder. whole: options of the canvas, for all of them."""
    slowest = {**whole, "threshold": "2"}
    first = outcomes(llm, questions, Way("", "canvas", BASE, slowest, temperature))
    curves = {}
    for decoder, settings in SETTINGS.items():
        ways = [Way("", "canvas", decoder, {**whole, **each}, temperature) for each in settings]
        curves[decoder] = [first, *(outcomes(llm, questions, way) for way in ways)]
    return {"temperature": temperature, "one_per_step": _percent(first), **_rows(curves)}


def _rows(curves: Mapping[str, Sequence[Outcomes]]) -> dict[str, Any]:
    count = len(curves[BASE][0].right)
    generator = np.random.default_rng(1)
    draws = [np.arange(count), *generator.integers(0, count, (DRAWS, count))]
    found: dict[str, Any] = {}
    for loss in LOSSES:
        speeds = {
            name: np.array([speed(points(curve, draw), loss) for draw in draws])
            for name, curve in curves.items()
        }
        found[f"{loss:g} points"] = {
            name: {
                "tokens_per_forward": _estimate(own),
                "over_threshold": _estimate(own - speeds[BASE]),
            }
            for name, own in speeds.items()
        }
    settings = {
        name: [{**s, "percent": _percent(o), "tokens_per_forward": _speed(o)} for s, o in pairs]
        for name, pairs in (
            (name, zip(SETTINGS[name], curves[name][1:], strict=True)) for name in curves
        )
    }
    return {"at_a_loss_of": found, "settings": settings}


def points(curve: Sequence[Outcomes], draw: NDArray[np.intp]) -> Floats:
    """[settings, 2]: tokens per forward and percent right of the drawn questions."""
    return np.array(
        [(o.tokens[draw].sum() / o.forwards[draw].sum(), 100 * o.right[draw].mean()) for o in curve]
    )


def speed(curve: Floats, loss: float) -> float:
    """The most tokens per forward on the line through the points [n, 2] that keeps within `loss` points of the first."""
    bound = curve[0, 1] - loss
    order = curve[np.argsort(curve[:, 0])]
    best = float(order[order[:, 1] >= bound][-1, 0])
    for (x, y), (next_x, next_y) in zip(order, order[1:], strict=False):
        if (y >= bound) != (next_y >= bound):
            best = max(best, float(x + (next_x - x) * (bound - y) / (next_y - y)))
    return best


def _estimate(values: Floats) -> dict[str, Any]:
    """values: of the questions as they are, then of the draws."""
    low, high = np.percentile(values[1:], (2.5, 97.5))
    return {
        "value": round(float(values[0]), 3),
        "interval": [round(float(low), 3), round(float(high), 3)],
    }


def _percent(found: Outcomes) -> float:
    return round(100 * float(found.right.mean()), 2)


def _speed(found: Outcomes) -> float:
    return round(float(found.tokens.sum() / found.forwards.sum()), 3)
