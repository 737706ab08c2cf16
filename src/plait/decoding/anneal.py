"""Anneal (dInfer, arXiv:2510.08666): a threshold that begins high and falls with every step of the request.

In step t = 0, 1, ... the inner decoder works with the threshold max(start - rate * t, its own).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from plait.core.errors import UserError
from plait.core.traits import Traits
from plait.core.window import Update
from plait.decoding import base
from plait.decoding.base import Decoder as AnyDecoder
from plait.decoding.base import Item

SUMMARY = "a wrapper: a threshold that falls from step to step"


@dataclass(frozen=True, slots=True)
class Options:
    """start: the threshold of the first step. rate: by how much each step lowers it."""

    start: float = 1.0
    rate: float = 0.02

    def __post_init__(self) -> None:
        if not 0.0 < self.start <= 100.0:
            raise UserError(f"start={self.start!r} is out of range", "above 0, at most 100")
        if not 0.0 <= self.rate <= 100.0:
            raise UserError(f"rate={self.rate!r} is out of range", "from 0 to 100")


class Decoder(base.Wrapper):
    """Lets the inner decoder decide with the threshold of the step."""

    options: Options

    def __init__(self, options: Any, traits: Traits, inner: AnyDecoder | None = None) -> None:
        super().__init__(options, traits, inner)
        if self.inner.threshold is None:
            raise UserError(
                "decoder: 'anneal' lowers a threshold, and the one inside it has none",
                "anneal(threshold), anneal(hierarchical), anneal(joint) or anneal(credit(threshold))",
            )

    def decide_all(self, items: list[Item]) -> list[Update | Exception]:
        updates: dict[int, Update | Exception] = {}
        groups: dict[float, list[int]] = {}
        for index, item in enumerate(items):
            groups.setdefault(self._threshold_of(item), []).append(index)
        for threshold, indices in groups.items():
            decided = self.inner.at(threshold).decide_all([items[i] for i in indices])
            updates.update(zip(indices, decided, strict=True))
        return [updates[index] for index in range(len(items))]

    def _threshold_of(self, item: Item) -> float:
        own = self.inner.threshold
        assert own is not None
        steps: int = item.seq.scratch.get("steps", 0)
        return max(self.options.start - self.options.rate * steps, own)
