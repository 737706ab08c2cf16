"""Unmask by confidence, and edit what was written (LLaDA2.1's joint threshold decoding).

Masked positions are decided as by decoding/threshold.py. A position of the block that holds a token already is
written again if another token is proposed for it with a confidence of at least `edit_threshold`. When nothing is
masked any more the block goes on until a step changes nothing, for `most_edits` steps at most.
"""

from __future__ import annotations

from dataclasses import dataclass

from plait.core.errors import UserError
from plait.core.window import Update
from plait.decoding import base, rows
from plait.decoding.base import Item, Rows, undecided
from plait.decoding.threshold import sure_ones
from plait.kernels.sampling import Choices

SUMMARY = "unmask by confidence, and edit written tokens until the block is at rest"


@dataclass(frozen=True, slots=True)
class Options:
    """threshold: confidence from which a masked position is written. edit_threshold: from which a written one
    is changed. most_edits: steps of a block in which nothing is masked."""

    threshold: float = 0.9
    edit_threshold: float = 0.9
    most_edits: int = 16

    def __post_init__(self) -> None:
        for name in ("threshold", "edit_threshold"):
            if not getattr(self, name) > 0.0:
                raise UserError(
                    f"{name}={getattr(self, name)!r} is out of range", "a number above 0"
                )
        if not 0 <= self.most_edits <= 10_000:
            raise UserError(f"most_edits={self.most_edits} is out of range", "from 0 to 10000")


class Decoder(base.Decoder):
    """Writes masked targets, and changes others."""

    edits = True
    options: Options

    def decide_all(self, items: list[Item]) -> list[Update | Exception]:
        return rows.decide_all(
            items, self.traits, self.threads, self._write, want_confidence=True, edits=True
        )

    def _write(self, part: Rows, choices: Choices) -> Update:
        seq, tokens, confidence = part.seq, choices.tokens, choices.confidence
        masked = undecided(seq, part.targets)
        chosen = ~masked & (confidence >= self.options.edit_threshold)
        chosen[~masked] &= tokens[~masked] != seq.tokens[part.targets[~masked]]
        if masked.any():
            chosen[masked] = sure_ones(confidence[masked], self.options.threshold)
        edits = 0 if masked.any() else seq.scratch.get("edits", 0) + 1
        most = self.options.most_edits
        is_open = bool((masked & ~chosen).any())
        settled = not is_open and (not chosen.any() or edits >= most)
        update = rows.written(part, choices, chosen)
        return update._replace(settled=settled, memory={"edits": edits})
