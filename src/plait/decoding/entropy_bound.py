"""Decide the positions of least entropy, as many as a bound on their sum allows (EB sampler, arXiv:2505.24857).

With entropies H_1 <= H_2 <= ... of the open positions, the n first are written for which
H_1 + ... + H_(n-1) <= bound: the error of deciding them independently is at most that sum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plait.core.errors import UserError
from plait.core.window import Update
from plait.decoding import base, rows, scores
from plait.decoding.base import Item, Rows
from plait.decoding.scores import Doubles
from plait.kernels.sampling import Choices

SUMMARY = "the positions of least entropy, as many as a bound on its sum allows"


@dataclass(frozen=True, slots=True)
class Options:
    """bound: in nats; 0 decides one position per step, unless some have no entropy at all."""

    bound: float = 0.15

    def __post_init__(self) -> None:
        if not 0.0 <= self.bound <= 1e6:
            raise UserError(f"bound={self.bound!r} is out of range", "from 0 to 1e6")


class Decoder(base.Decoder):
    """Writes open targets until the bound is reached."""

    options: Options

    def decide_all(self, items: list[Item]) -> list[Update | Exception]:
        return rows.decide_all(items, self.traits, self.threads, self._write)

    def _write(self, part: Rows, choices: Choices) -> Update:
        chosen = within_bound(scores.entropies(part.logits, self.traits), self.options.bound)
        return rows.written(part, choices, chosen)


def within_bound(entropies: Doubles, bound: float) -> NDArray[np.bool_]:
    """Which of the rows are written."""
    order = np.argsort(entropies, kind="stable")
    before = np.cumsum(entropies[order]) - entropies[order]
    chosen = np.zeros(len(order), np.bool_)
    chosen[order[before <= bound]] = True
    chosen[order[0]] = True
    return chosen
