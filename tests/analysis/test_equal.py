"""The fastest point of a curve that is right often enough, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from plait.analysis.equal import at_equal_accuracy


def row(
    label: str, curve: str | None, accuracy: float, speed: float, planner: str = "auto"
) -> dict[str, Any]:
    return {
        "label": label,
        "curve": curve,
        "planner": planner,
        "accuracy": accuracy,
        "tokens_per_forward": 2.0,
        "tokens_per_second": speed,
    }


ROWS = [
    row("autoregressive", None, 0.96, 100.0, "autoregressive"),
    row("speculative", None, 0.96, 125.0, "speculative"),
    row("surest first", None, 0.99, 50.0),
    row("threshold=0.9", "threshold", 0.95, 200.0),
    row("threshold=0.5", "threshold", 0.949, 900.0),
    row("threshold=0.99", "threshold", 0.99, 150.0),
    row("factor=4", "factor", 0.5, 999.0),
]


def test_the_fastest_point_within_what_may_be_lost_counts() -> None:
    found = at_equal_accuracy(ROWS, 0.01)
    assert found["reference"] == "autoregressive"
    best = found["curves"]["threshold"]
    assert (best["label"], best["accuracy"]) == ("threshold=0.9", 0.95)
    assert best["over"] == pytest.approx(
        {"autoregressive": 2.0, "speculative": 1.6, "surest first": 4.0}
    )
    assert found["curves"]["factor"] is None
    assert at_equal_accuracy(ROWS, 0.5)["curves"]["factor"]["label"] == "factor=4"


def test_weights_without_a_causal_mode_are_compared_with_their_best_baseline() -> None:
    masked = [row("left to right", None, 0.4, 60.0), *ROWS[2:]]
    found = at_equal_accuracy(masked, 0.0)
    assert found["reference"] == "surest first"
    assert found["curves"]["threshold"]["label"] == "threshold=0.99"
