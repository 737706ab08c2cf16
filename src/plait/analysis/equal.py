"""Speed at equal accuracy: of every curve of a sweep its fastest point among those that are right about as often as the
same weights one token at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

CAUSAL = "autoregressive"
"""What the others are compared with, if the weights can do it."""
Row = Mapping[str, Any]
"""Of a sweep: label, curve (None for a baseline), planner, accuracy, tokens_per_forward, tokens_per_second."""


def at_equal_accuracy(rows: Sequence[Row], lost: float) -> dict[str, Any]:
    """lost: how much less often right a point may be than the reference, a share from 0 to 1.

    reference: from left to right, or of weights without a causal mode the baseline that is most often right. curves:
    of each the fastest of its points that are right often enough, how many times as many tokens a second it writes as
    every baseline, and None where no point is.
    """
    baselines = [row for row in rows if row["curve"] is None]
    causal = [row for row in baselines if row["planner"] == CAUSAL]
    reference = max(causal or baselines, key=lambda row: float(row["accuracy"]))
    bound = reference["accuracy"] - lost - 1e-9
    curves: dict[str, dict[str, Any] | None] = {}
    for name in dict.fromkeys(row["curve"] for row in rows if row["curve"] is not None):
        enough = [row for row in rows if row["curve"] == name and row["accuracy"] >= bound]
        best = max(enough, key=lambda row: float(row["tokens_per_second"]), default=None)
        curves[name] = None if best is None else _told(best, baselines)
    return {"reference": reference["label"], "lost": lost, "curves": curves}


def _told(row: Row, baselines: Sequence[Row]) -> dict[str, Any]:
    names = ("label", "accuracy", "tokens_per_forward", "tokens_per_second")
    speed = row["tokens_per_second"]
    over = {other["label"]: speed / other["tokens_per_second"] for other in baselines}
    return {**{name: row[name] for name in names}, "over": over}
