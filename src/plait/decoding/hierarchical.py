"""Spread the decisions out, so that they have decided neighbours (dInfer's hierarchical decoder, arXiv:2510.08666).

Open positions form runs without a decided one in between. Of every run the surest position is written if its
confidence is above `low_threshold`, besides all that the threshold decoder writes. So runs fall apart, at best
into halves, and a block is done in a logarithmic number of steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plait.core.errors import UserError
from plait.core.window import Ints, Update
from plait.decoding import base, rows
from plait.decoding.base import Item, Rows
from plait.decoding.scores import Doubles
from plait.decoding.threshold import sure_ones
from plait.kernels.sampling import Choices

SUMMARY = "the surest of every run of open positions, and all above a confidence"


@dataclass(frozen=True, slots=True)
class Options:
    """threshold: confidence from which every position is written. low_threshold: above which the surest of
    its run is."""

    threshold: float = 0.9
    low_threshold: float = 0.5

    def __post_init__(self) -> None:
        for name in ("threshold", "low_threshold"):
            if not getattr(self, name) > 0.0:
                raise UserError(
                    f"{name}={getattr(self, name)!r} is out of range", "a number above 0"
                )


class Decoder(base.Decoder):
    """Writes open targets that lie apart."""

    is_guided = True
    options: Options

    def decide_all(self, items: list[Item]) -> list[Update | Exception]:
        return rows.decide_all(items, self.traits, self.threads, self._write, want_confidence=True)

    def _write(self, part: Rows, choices: Choices) -> Update:
        confidence = choices.confidence
        chosen = sure_ones(confidence, self.options.threshold)
        heads = surest_of_runs(part.targets, confidence)
        chosen[heads[confidence[heads] > self.options.low_threshold]] = True
        return rows.written(part, choices, chosen)


def surest_of_runs(targets: Ints, confidence: Doubles) -> NDArray[np.intp]:
    """For each run of neighbouring targets the index of its surest."""
    firsts = np.flatnonzero(np.diff(targets, prepend=targets[0] - 2) > 1)
    ends = np.append(firsts[1:], len(targets))
    return np.array([a + int(confidence[a:b].argmax()) for a, b in zip(firsts, ends, strict=True)])
