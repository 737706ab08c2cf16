"""Left to right, several tokens per forward: a proposer drafts, the model verifies in the same forward.

A window that would decide the next token is made longer by drafted tokens behind the end of the canvas. What the
model agrees with is written, with one token more of its own (decoding/verify.py), so the answer is that of plain
decoding, token for token. Drafted slots that were refused count as empty and are written again.

How much is drafted follows from how often drafts were right lately and from what a step costs (width.py), for
the whole batch; nothing is drafted where that is slower. Now and then a short draft finds out whether this
has changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from plait.core import registry
from plait.core.errors import UserError
from plait.core.sequence import Sequence
from plait.core.traits import Traits
from plait.core.window import Ints, Update, Window
from plait.iteration import autoregressive
from plait.iteration.base import Equipment
from plait.iteration.width import Record, best_width
from plait.proposers.base import MOST, Proposal, Proposer

SUMMARY = "left to right; drafts several tokens and verifies them in one forward"

AUTO = ("lookahead", "draft")
"""What "auto" tries, in this order."""
BEGIN = {"lookahead": Record(2.0, 4.0), "draft": Record(3.0, 4.0)}
"""What is expected of a proposer before anything is known of it."""
PROBE, PROBE_WIDTH = 32, 2
"""A proposer that does not pay is tried again after so many tokens, with so short a draft."""


@dataclass(frozen=True, slots=True)
class Options:
    """proposer: a sibling in `proposers`, or auto. width: tokens to draft each time; 0: as many as pay."""

    proposer: str = "auto"
    width: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.width <= MOST:
            raise UserError(f"width={self.width} is out of range", f"0 (automatic) to {MOST}")


class Planner(autoregressive.Planner):
    """For causal models that predict the next token."""

    default_decoder = "verify"

    def __init__(self, options: Any, traits: Traits) -> None:
        super().__init__(options, traits)
        self.proposers: dict[str, Proposer] = {}

    def equip(self, equipment: Equipment) -> None:
        super().equip(equipment)
        names = AUTO if self.options.proposer == "auto" else (self.options.proposer,)
        if self.options.proposer == "auto" and equipment.proposing.drafter is None:
            names = names[:1]
        made = {name: registry.load("proposers", name).Proposer for name in names}
        self.proposers = {name: kind(equipment.proposing) for name, kind in made.items()}

    def next(self, seq: Sequence, stored: int, budget: int) -> Window | None:
        window = super().next(seq, stored, budget)
        if window is None or not _decides(seq, window):
            return window
        company = self.equipment.company
        room = min(budget // company.num_running - window.length, seq.limit - seq.length - 1, MOST)
        for name, proposer in self.proposers.items() if room > 0 else ():
            width = self._width(seq, name, proposer, room)
            proposal = proposer.propose(seq, width) if width else Proposal()
            if len(proposal.tokens):
                seq.memo["proposer"] = name
                return _drafted(seq, window, proposal)
        return window

    def absorb(self, seq: Sequence, window: Window, update: Update) -> None:
        super().absorb(seq, window, update)
        proposed = len(window.parents)
        if not proposed:
            return
        name = seq.memo["proposer"]
        key = f"record of {name}"
        accepted = len(update.positions) - 1
        seq.memo[key] = _record(seq, name).after(proposed, accepted)
        self.proposers[name].learn(seq, proposed, accepted)

    def _width(self, seq: Sequence, name: str, proposer: Proposer, room: int) -> int:
        if self.options.width:
            return min(self.options.width, room)
        rate, company = _record(seq, name).rate, self.equipment.company
        width = best_width(rate, room, company, seq.length, proposer.seconds)
        return width or (min(PROBE_WIDTH, room) if seq.length % PROBE == 0 else 0)


def _record(seq: Sequence, name: str) -> Record:
    known: Record | None = seq.memo.get(f"record of {name}")
    return known or BEGIN.get(name, Record(2.0, 4.0))


def _decides(seq: Sequence, window: Window) -> bool:
    """Whether the window does nothing but choose the next token."""
    return window.length <= MOST and window.targets.tolist() == [seq.length]


def _drafted(seq: Sequence, window: Window, proposal: Proposal) -> Window:
    """The window with a branch of drafted tokens at its end."""
    end, count = window.end, len(proposal.tokens)
    rows: Ints = np.arange(window.length - 1, window.length + count, dtype=np.int32)
    return window._replace(
        end=end + count,
        rows=rows,
        targets=rows + np.int32(window.start + 1),
        tokens=np.concatenate([seq.tokens[window.start : end], proposal.tokens]),
        parents=proposal.parents,
    )
