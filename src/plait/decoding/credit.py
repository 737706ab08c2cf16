"""Credit (dInfer, arXiv:2510.08666): what a position has favoured for several steps counts more.

M[i, token] is kept for the open positions of a block. Every step multiplies it by `decay` and adds
p^exponent to the token that is best at i, with p its probability. The inner decoder sees the logits plus
strength * ln(1 + M). Only tokens that were the best of some step have credit, so it takes a few numbers per
position, and it goes when the position is decided.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from plait.core.errors import UserError
from plait.core.window import Floats, Update
from plait.decoding import base, rows, scores
from plait.decoding.base import Item, Rows, split

SUMMARY = "a wrapper: adds credit for what a position has favoured in earlier steps"

Credits = dict[int, dict[int, float]]
"""Position -> token -> credit."""


@dataclass(frozen=True, slots=True)
class Options:
    """strength, exponent, decay: see the module's text."""

    strength: float = 0.7
    exponent: float = 0.2
    decay: float = 0.8

    def __post_init__(self) -> None:
        for name, most in (("strength", 100.0), ("exponent", 100.0), ("decay", 1.0)):
            if not 0.0 <= getattr(self, name) <= most:
                raise UserError(
                    f"{name}={getattr(self, name)!r} is out of range", f"from 0 to {most:g}"
                )


class Decoder(base.Wrapper):
    """Lets the inner decoder decide over logits with credit."""

    options: Options

    def decide_all(self, items: list[Item]) -> list[Update | Exception]:
        told, kept = [], []
        for item in items:
            credits_ = self._credits(split(item, edits=self.edits))
            told.append(item._replace(logits=self._credited(item, credits_)))
            kept.append(credits_)
        updates = self.inner.decide_all(told)
        return [
            update if isinstance(update, Exception) else _noted(item, update, credits_)
            for item, update, credits_ in zip(items, updates, kept, strict=True)
        ]

    def _credits(self, part: Rows) -> Credits:
        before: Credits = part.seq.scratch.get("credit", {})
        if not len(part.targets):
            return {}
        shares = scores.distributions(part.logits, self.traits)
        best = shares.argmax(axis=1)
        gains = np.take_along_axis(shares, best[:, None], axis=1)[:, 0] ** self.options.exponent
        after: Credits = {}
        for position, token, gain in zip(part.targets.tolist(), best.tolist(), gains, strict=True):
            own = {t: c * self.options.decay for t, c in before.get(position, {}).items()}
            own[token] = own.get(token, 0.0) + float(gain)
            after[position] = own
        return after

    def _credited(self, item: Item, credits_: Credits) -> Floats:
        logits = item.logits.copy()
        for row, position in enumerate(item.window.targets.tolist()):
            for token, credit in credits_.get(position, {}).items():
                logits[row, token] += np.float32(self.options.strength * np.log1p(credit))
        return logits


def _noted(item: Item, update: Update, credits_: Credits) -> Update:
    """With the credit of what stays open, and log-probabilities of the model as it is."""
    written = set(update.positions.tolist())
    left = {position: own for position, own in credits_.items() if position not in written}
    update = update._replace(memory={**update.memory, "credit": left})
    if item.seq.params.logprobs is None or not written:
        return update
    at = np.searchsorted(item.window.targets, update.positions)
    raw = rows.written_logprobs(item.logits[at], item.seq, update.positions, update.tokens)
    return update._replace(logprobs={**update.logprobs, **raw})
