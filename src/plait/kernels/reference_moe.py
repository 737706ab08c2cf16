"""The NumPy twin of how rows choose experts; see models.experts.Routing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from plait.core.window import Floats, Ints

_SMALLEST_SUM = 1e-20


def route(
    logits: Floats,
    bias: Floats | None,
    *,
    score: str,
    top_k: int,
    groups: int,
    top_groups: int,
    normalize: bool,
    scale: float,
) -> tuple[Ints, Floats]:
    """Experts int32 [rows, top_k], best first, and their weights float32 [rows, top_k].

    logits: [rows, experts]. Computed in float64; of equal scores the one with the lower number wins.
    """
    scores = _scores(logits.astype(np.float64), score)
    ranked = scores if bias is None else scores + bias
    if groups > 1:
        ranked = _limited(ranked, groups, top_groups)
    chosen = _best(ranked, top_k)
    weights = np.take_along_axis(scores, chosen, axis=1)
    if normalize:
        total = np.zeros((len(weights), 1))
        for rank in range(top_k):
            total[:, 0] += weights[:, rank]
        weights = weights / (total + _SMALLEST_SUM)
    return chosen.astype(np.int32), (weights * scale).astype(np.float32)


def _scores(logits: NDArray[np.float64], score: str) -> NDArray[np.float64]:
    if score == "sigmoid":
        return np.asarray(1.0 / (1.0 + np.exp(-logits)))
    assert score == "softmax", score
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _limited(ranked: NDArray[np.float64], groups: int, top_groups: int) -> NDArray[np.float64]:
    """Minus infinity outside the `top_groups` groups whose two best add up to most."""
    grouped = ranked.reshape(len(ranked), groups, -1)
    sums = np.sort(grouped, axis=2)[:, :, -2:].sum(axis=2)
    taken = np.zeros((len(ranked), groups), np.bool_)
    np.put_along_axis(taken, _best(sums, top_groups), True, axis=1)
    return np.where(taken[:, :, None], grouped, -np.inf).reshape(ranked.shape)


def _best(values: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Columns of the `count` largest of each row, best first."""
    return np.asarray(np.argsort(-values, axis=1, kind="stable")[:, :count])
