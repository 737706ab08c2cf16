"""As many positions as can be decided at once without leaving the joint best (Fast-dLLM, arXiv:2505.22618).

With confidences c_1 >= c_2 >= ... the n surest proposals are written, n as large as

    weakest    (n + 1) (1 - c_n) < factor
    frechet    (1 - c_1) + ... + (1 - c_n) + (1 - c_n) < factor

allow, and at least one. With factor 1 the first is the condition under which the best tokens of the positions
one by one are the best ones together; the second replaces n times the weakest by the sum, a bound of the same
kind (Frechet's inequality) that is never stricter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from plait.core.errors import UserError
from plait.core.window import Update
from plait.decoding import base, rows
from plait.decoding.base import Item, Rows
from plait.kernels.sampling import Choices

SUMMARY = "as many at once as their confidences allow together; always at least the surest one"

FORMS = ("weakest", "frechet")


@dataclass(frozen=True, slots=True)
class Options:
    """factor: larger writes more at once. form: weakest or frechet."""

    factor: float = 1.0
    form: str = "weakest"

    def __post_init__(self) -> None:
        if not 0.0 <= self.factor <= 1e6:
            raise UserError(f"factor={self.factor!r} is out of range", "from 0 to 1e6")
        if self.form not in FORMS:
            raise UserError(f"form={self.form!r} is not known", f"one of: {', '.join(FORMS)}")


class Decoder(base.Decoder):
    """Writes the surest open targets."""

    is_guided = True
    options: Options

    def decide_all(self, items: list[Item]) -> list[Update | Exception]:
        return rows.decide_all(items, self.traits, self.threads, self._write, want_confidence=True)

    def _write(self, part: Rows, choices: Choices) -> Update:
        order = np.argsort(-choices.confidence, kind="stable")
        doubts = 1.0 - choices.confidence[order]
        counts = np.arange(1, len(order) + 1)
        together = counts * doubts if self.options.form == "weakest" else np.cumsum(doubts)
        count = max(1, int(np.count_nonzero(together + doubts < self.options.factor)))
        chosen = np.zeros(len(order), np.bool_)
        chosen[order[:count]] = True
        return rows.written(part, choices, chosen)
