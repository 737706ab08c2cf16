"""Unmask by confidence (Fast-dLLM, arXiv:2505.22618; dInfer's threshold decoder).

Each open position proposes a token: the best one at temperature 0, else one sampled as in
`decoding/sample.py`, with the random number of its position (so a proposal changes from step to step only
as far as the distribution does). Its confidence is the token's probability at temperature 1. Written are
all proposals with confidence >= min(threshold, highest confidence - 1e-5): at least one, always. By a grammar a
block is decided from its beginning on (in_order.py), and a canvas by proposals that fit (guided.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plait.core.errors import UserError
from plait.core.window import Update
from plait.decoding import base, in_order, rows
from plait.decoding.base import Item, Rows
from plait.kernels.sampling import Choices

SUMMARY = "unmask every position at or above a confidence; always at least the surest one"

_TIE = 1e-5


@dataclass(frozen=True, slots=True)
class Options:
    """threshold: probability from which a token is written; above 1 writes only the surest one."""

    threshold: float = 0.9

    def __post_init__(self) -> None:
        if not self.threshold > 0.0:
            raise UserError(f"threshold={self.threshold!r} is out of range", "a number above 0")


class Decoder(base.Decoder):
    """Writes the open targets it is sure of."""

    is_guided = True
    walks = True
    options: Options

    def decide_all(self, items: list[Item]) -> list[Update | Exception]:
        free = [item for item in items if not _is_in_order(item)]
        updates = iter(
            rows.decide_all(free, self.traits, self.threads, self._write, want_confidence=True)
        )
        return [
            in_order.decide(item, self.traits, self.options.threshold)
            if _is_in_order(item)
            else next(updates)
            for item in items
        ]

    def _write(self, part: Rows, choices: Choices) -> Update:
        sure = sure_ones(choices.confidence, self.options.threshold)
        return rows.written(part, choices, sure)


def _is_in_order(item: Item) -> bool:
    return item.walk is not None and item.guide is None


def sure_ones(confidence: NDArray[np.float64], threshold: float) -> NDArray[np.bool_]:
    """Which confidences reach the threshold, or are the highest; above 1 the first of the highest alone."""
    if threshold > 1.0:
        return np.asarray(np.arange(len(confidence)) == confidence.argmax(), np.bool_)
    return np.asarray(confidence >= min(threshold, confidence.max() - _TIE), np.bool_)
