"""Left to right, several tokens per forward: a proposer drafts, the model verifies in the same forward.

A window that would decide the next token is made longer by drafted tokens behind the end of the canvas. What the
model agrees with is written, with one token more of its own (decoding/verify.py), so the answer is that of plain
decoding, token for token. Drafted slots that were refused count as empty and are written again.

How much is drafted, and by whom, follows from how often drafts were right lately and from what a step costs, for
the whole batch; nothing is drafted where that is slower (drafting.py).
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plait.core import registry
from plait.core.errors import UserError
from plait.core.sequence import Sequence
from plait.core.traits import Traits
from plait.core.window import Ints, Pattern, PatternKind, Update, Window
from plait.iteration import autoregressive, drafting
from plait.iteration.base import Equipment
from plait.proposers.base import MOST, NO_PROPOSAL, Proposal, Proposer

log = logging.getLogger(__name__)

SUMMARY = "left to right; drafts several tokens and verifies them in one forward"

AUTO = ("lookahead", "draft")
"""What "auto" tries, in this order."""


@dataclass(frozen=True, slots=True)
class Options:
    """proposer: a sibling in `proposers`, or auto. width: tokens to draft each time; 0: as many as pay. branches: at
    most so many ways to go on from the canvas, for greedy requests."""

    proposer: str = "auto"
    width: int = 0
    branches: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.width <= MOST:
            raise UserError(f"width={self.width} is out of range", f"0 (automatic) to {MOST}")
        if not 1 <= self.branches <= MOST:
            raise UserError(f"branches={self.branches} is out of range", f"1 to {MOST}")


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
        proposers = {name: kind(equipment.proposing) for name, kind in made.items()}
        self.proposers = {name: own for name, own in proposers.items() if name != "none"}

    @property
    def is_drafting(self) -> bool:
        return self.drafts and bool(self.proposers)

    def streams(self, seq: Sequence, stored: int) -> bool:
        """Tokens that were right in a branch of their own are fed once more; that is no prompt."""
        return seq.length - stored <= 1 + MOST

    def next(self, seq: Sequence, stored: int, budget: int) -> Window | None:
        window = super().next(seq, stored, budget)
        seq.memo.pop("asked", None)
        if window is None or not self.is_drafting:
            return window
        if not _decides(seq, window):
            return window
        if not seq.metrics.num_forwards:
            return window  # whoever else begins in this step is not counted yet
        company = self.equipment.company
        room = min(budget // company.num_running - window.length, seq.limit - seq.length - 1, MOST)
        if room <= 0:
            return window
        begin = time.perf_counter()
        proposal = self._proposal(seq, room)
        seconds = time.perf_counter() - begin
        seq.metrics.draft_seconds += seconds
        company.drafted(seconds)
        if proposal is None:
            return window
        company.num_drafted += len(proposal.tokens)
        return _drafted(seq, window, proposal)

    def absorb(self, seq: Sequence, window: Window, update: Update) -> None:
        super().absorb(seq, window, update)
        if not self.is_drafting:
            return
        company, proposed = self.equipment.company, len(window.parents)
        stop = seq.first_stop(update.tokens.tolist(), self.traits.eos_ids)
        written = len(update.positions) if stop is None else stop + 1
        ask: drafting.Ask | None = seq.memo.pop("asked", None)
        before = seq.length - len(update.positions)
        if window.length and written and before > seq.prompt_length + seq.answered:
            plan = ask.plan if ask and proposed else None
            drafting.account(seq, written, plan, company)
        if ask is None or not proposed:
            return  # without a draft, or there was no memory for it
        accepted = len(update.positions) - 1
        drafting.learn(seq, ask, self.proposers[ask.name], proposed, accepted, company)
        try:
            self.proposers[ask.name].learn(seq, proposed, accepted)
        except Exception:
            self._give_up()

    def _proposal(self, seq: Sequence, room: int) -> Proposal | None:
        """The most promising; None for none. A proposer that fails costs nobody an answer."""
        try:
            proposals = (self._propose(seq, ask) for ask in self._asks(seq, room))
            return next((one for one in proposals if len(one.tokens)), None)
        except Exception:
            self._give_up()
            return None

    def _give_up(self) -> None:
        """Draft no more, because of the exception at hand."""
        log.exception("a proposer failed; nothing is drafted any more")
        self.proposers = {}

    def _asks(self, seq: Sequence, room: int) -> list[drafting.Ask]:
        """What to ask of whom, the most promising first."""
        company, width = self.equipment.company, min(self.options.width, room)
        if width:
            return [drafting.fixed(seq, *one, width, company) for one in self.proposers.items()]
        asks = (drafting.choose(seq, *one, room, company) for one in self.proposers.items())
        return sorted((ask for ask in asks if ask), key=lambda ask: -ask.plan.gain)

    def _propose(self, seq: Sequence, ask: drafting.Ask) -> Proposal:
        branches = self.options.branches if _may_branch(seq) else 1
        proposal = self.proposers[ask.name].propose(seq, ask.plan.width, branches)
        if len(proposal.tokens) and not _are_tokens(proposal.tokens, self.traits.vocab_size):
            proposal = NO_PROPOSAL  # of a corpus, say, that was written for more tokens
        if len(proposal.tokens):
            seq.memo["asked"] = ask
        else:
            drafting.learn(seq, ask, self.proposers[ask.name], 0, 0, self.equipment.company)
        return proposal


def _are_tokens(ids: Ints, vocab_size: int) -> bool:
    return bool(ids.min() >= 0 and ids.max() < vocab_size)


def _may_branch(seq: Sequence) -> bool:
    """Whether a row off the first branch can be believed (decoding/verify.py)."""
    params = seq.params
    if params.has_penalties or params.logit_bias or params.logprobs is not None:
        return False  # changes scores that are compared, or that all rows have to give
    return params.is_greedy and seq.length >= seq.prompt_length + params.min_tokens


def _decides(seq: Sequence, window: Window) -> bool:
    """Whether the window does nothing but choose the next token."""
    return window.length <= MOST and window.targets.tolist() == [seq.length]


def _drafted(seq: Sequence, window: Window, proposal: Proposal) -> Window:
    """The window with drafted tokens at its end: one branch, or a tree whose rows see their own branch alone."""
    end, count = window.end, len(proposal.tokens)
    rows: Ints = np.arange(window.length - 1, window.length + count, dtype=np.int32)
    drafted = window._replace(
        end=end + count,
        rows=rows,
        targets=rows + np.int32(window.start + 1),
        tokens=np.concatenate([seq.tokens[window.start : end], proposal.tokens]),
        parents=proposal.parents,
    )
    if (proposal.parents == np.arange(count)).all():
        return drafted
    mask = _tree_mask(proposal.parents, window.length)
    positions = window.start - 1 + mask.sum(axis=1, dtype=np.int32)
    return drafted._replace(
        pattern=Pattern(PatternKind.TREE, 0, mask),
        positions=positions,
        targets=positions[rows] + np.int32(1),
    )


def _tree_mask(parents: Ints, before: int) -> NDArray[np.bool_]:
    """What each row of a window sees of it, bool [rows, rows]: `before` rows of canvas, then the tree."""
    size = before + len(parents)
    mask: NDArray[np.bool_] = np.tri(size, dtype=np.bool_)
    for row, parent in enumerate(parents.tolist(), before):
        mask[row] = mask[before - 1 + parent]
        mask[row, row] = True
    return mask
