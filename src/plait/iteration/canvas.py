"""Masked diffusion: a canvas of prompt and masked positions, seen as a whole, decided block by block.

For models that attend in both directions over everything (LLaDA, arXiv:2502.09992; Dream, arXiv:2508.15487).
Blocks count from the first position to be decided; the leftmost with an open position is the one a step works
on. Blocks without any, in a canvas that is filled in, are passed over.

No K/V of such a model is ever exact before the end, because every slot sees every other. `reuse` says what a
step takes from earlier ones all the same. A *refresh* feeds the whole canvas and leaves the K/V of all of it.
With [s, e) the block and L the end of the canvas, the steps between two refreshes feed

    none       nothing: every step is a refresh, the exact thing
    prefix     [s, L)           (Fast-dLLM, arXiv:2505.22618)
    dual       [s, e)           (the same)
    vicinity   [s - look_behind, e + look_ahead)     (dInfer, arXiv:2510.08666)

and see the K/V of the others as the last refresh left it. The first step of every block is a refresh, and of
the request the first `warm_up` steps; `refresh_every` = n makes every n-th step of a block one.

A preempted request comes to the same tokens: the window of the last refresh is kept, and fed again before the
next step if its K/V is gone. What the steps in between wrote lies within what the next one writes.

Guidance (arXiv:2207.12598): with weight w a window holds the canvas twice, the second time with what was given
masked, neither half seeing the other; see `Window.guidance`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from plait.core.errors import ContextLengthError, UserError
from plait.core.sequence import Sequence
from plait.core.traits import Predicts, Traits
from plait.core.window import FULL, NO_INTS, Pattern, PatternKind, Slot, Soft, Update, Window, full
from plait.iteration import base, block_length, blocks, smoothing
from plait.iteration.pace import StepTime

SUMMARY = "masked diffusion: a canvas seen as a whole, decided block by block"

REUSE = ("none", "prefix", "dual", "vicinity")
BLOCK = 32
LOOK = 16
OPEN_BLOCKS = 4


@dataclass(frozen=True, slots=True)
class Options(smoothing.Options):
    """block_size: positions decided together. Not given: 32 or, where a step feeds the block alone or with a window
    around it (reuse=dual, vicinity) and its cost was measured, the fastest (block_length.py). open_blocks: how many lie open at once, the one at work included;
    the canvas grows as they are decided. Not given: all that max_tokens allows, from the beginning; of a request
    without max_tokens 4, since the context may be far longer than the answer. An infill lies there whole.

    reuse: none, prefix, dual or vicinity. look_behind, look_ahead: positions around the block that vicinity
    computes again; not given: 16, or as many as are nearly free where the cost of a step was measured. warm_up: so many steps of a request compute everything. refresh_every: so
    does every n-th step of a block, 0 for the first alone.
    guidance: weight of classifier-free guidance, 0 for none. early_stop: nothing is decided behind a token
    that ends the answer, except by decoders that edit.
    """

    block_size: int | None = None
    open_blocks: int | None = None
    reuse: str = "none"
    look_behind: int | None = None
    look_ahead: int | None = None
    warm_up: int = 0
    refresh_every: int = 0
    guidance: float = 0.0
    early_stop: bool = True

    def __post_init__(self) -> None:
        smoothing.Options.__post_init__(self)
        if self.block_size is not None and self.block_size < 1:
            raise UserError(f"block_size={self.block_size} is out of range", "1 or more")
        if self.open_blocks is not None and self.open_blocks < 1:
            raise UserError(f"open_blocks={self.open_blocks} is out of range", "1 or more")
        if self.reuse not in REUSE:
            raise UserError(f"reuse={self.reuse!r} is not known", f"one of: {', '.join(REUSE)}")
        self._check_reuse()
        if not -1.0 <= self.guidance <= 100.0:
            raise UserError(f"guidance={self.guidance!r} is out of range", "from -1 to 100")
        if self.guidance and self.reuse != "none":
            raise UserError(
                f"guidance has no meaning with reuse={self.reuse}: it computes everything in every step",
                "leave it out, or use reuse=none",
            )

    def _check_reuse(self) -> None:
        counts = ("look_behind", "look_ahead", "warm_up", "refresh_every")
        for name in counts:
            value = getattr(self, name)
            if value is not None and value < 0:
                raise UserError(f"{name}={value} is out of range", "0 or more")
        for name in counts[:2] if self.reuse in ("prefix", "dual") else counts:
            if self.reuse != "vicinity" and getattr(self, name):
                raise UserError(
                    f"{name} has no meaning with reuse={self.reuse}",
                    "use reuse=vicinity, or leave it out",
                )


class Planner(base.Planner):
    """For models with full attention and a mask token."""

    default_decoder = "threshold"
    kinds = (PatternKind.FULL,)
    fills = True
    waits = True
    is_whole = True
    guides = True
    options: Options

    def __init__(self, options: Any, traits: Traits) -> None:
        super().__init__(options, traits)
        if traits.pattern.kind not in self.kinds:
            raise UserError(
                "planner: this model does not see a whole canvas at once",
                "use the planner 'auto'",
            )
        self.mask_token = blocks.mask_token(traits)
        if options.guidance and traits.starts_from_noise:
            raise UserError("guidance needs a model with a mask token", "leave it out")
        self.shift = 1 if traits.predicts is Predicts.NEXT else 0
        self.approximates = self.needs_slots = options.reuse != "none"

    @cached_property
    def block_size(self) -> int:
        """Positions decided together."""
        if self.options.block_size is not None:
            return self.options.block_size
        return (
            BLOCK if self._measured is None else block_length.fastest(self._measured, self._around)
        )

    @cached_property
    def looks(self) -> tuple[int, int]:
        """Positions before and behind the block that a step between two refreshes computes again."""
        return self._looks_at(self.block_size)

    @property
    def words(self) -> tuple[str, ...]:
        if self._measured is None or self.options.block_size is not None:
            return ()
        return (block_length.explained(self._measured, self.block_size, self._around, self.looks),)

    def admit(self, seq: Sequence) -> None:
        """Lays out the canvas. Raises ContextLengthError for one longer than the context."""
        if seq.params.prompt_logprobs is not None:
            raise UserError(
                "prompt_logprobs needs a model that predicts the next token from those before it",
                "leave it out for models that decide a canvas",
            )
        if seq.params.infill:
            if self.traits.starts_from_noise:
                raise UserError("infill needs a model with a mask token", "leave it out")
            seq.reopen(seq.params.infill, self.mask_token)
            seq.limit = seq.length
        else:
            self._refuse_too_long(seq)
            self._grow(seq, seq.prompt_length)
        blocks.begin_block(seq, *self._block(seq))

    def span(self, seq: Sequence) -> int:
        return seq.limit * self._copies

    def next(self, seq: Sequence, stored: int, budget: int) -> Window | None:
        start, end = self._block(seq)
        early = self.options.early_stop
        targets = blocks.targets(seq, start, end, self.traits, early_stop=early)
        if self._is_refresh(seq):
            window = self._window(seq, 0, seq.length, targets)
            if self.approximates:
                window = window._replace(tokens=seq.tokens.copy())
        elif stored < seq.length:
            window = seq.scratch["refresh"]
        else:
            window = self._window(seq, *self._reach(seq, start, end), targets)
        return window if window.length <= budget else None

    def absorb(self, seq: Sequence, window: Window, update: Update) -> None:
        blocks.note_step(seq, window)
        if self.approximates and window.tokens is not None:
            again = window._replace(rows=NO_INTS, targets=NO_INTS, remember=0)
            seq.scratch["refresh"] = again
        if blocks.is_kept_open(seq, window, update):
            return
        _, end = self._block(seq)
        masked = np.flatnonzero(seq.masked[seq.final :])
        seq.final = seq.final + int(masked[0]) if len(masked) else seq.length
        if seq.final < end or seq.final >= seq.limit:
            return
        self._grow(seq, seq.final)
        blocks.begin_block(seq, *self._block(seq))

    def _refuse_too_long(self, seq: Sequence) -> None:
        asked = seq.params.max_tokens
        room = min(self.traits.context_length, self.equipment.budget // self._copies)
        seq.limit = min(seq.limit, room)
        if seq.prompt_length + (1 if asked is None else asked) > room:
            raise ContextLengthError(
                f"a canvas of {seq.prompt_length} prompt tokens and {asked or 'some'} more is longer than "
                f"the {'context' if self._copies == 1 else 'half of a step (guidance feeds it twice)'} of {room}",
                "ask for fewer tokens (max_tokens), shorten the prompt, or raise max_num_batched_tokens if "
                "that is what limits the context",
            )

    @property
    def _copies(self) -> int:
        """Of the canvas in one window."""
        return 2 if self.options.guidance else 1

    def _grow(self, seq: Sequence, start: int) -> None:
        """Lay out the open blocks from the one that begins at `start` on."""
        count = self.options.open_blocks
        if count is None and seq.params.max_tokens is None and not seq.params.infill:
            count = OPEN_BLOCKS
        end = seq.limit if count is None else min(seq.limit, start + count * self.block_size)
        if end > seq.length:
            blocks.open_positions(seq, end - seq.length, self.traits)

    def _block(self, seq: Sequence) -> tuple[int, int]:
        """The block that holds the first position which is not final."""
        size, first = self.block_size, seq.prompt_length
        start = first + (seq.final - first) // size * size
        return start, min(start + size, seq.length)

    def _is_refresh(self, seq: Sequence) -> bool:
        options, step = self.options, seq.scratch["block_steps"]
        if options.reuse == "none" or step == 0 or seq.scratch.get("steps", 0) < options.warm_up:
            return True
        return bool(options.refresh_every and step % options.refresh_every == 0)

    def _reach(self, seq: Sequence, start: int, end: int) -> tuple[int, int]:
        """What the steps of a block feed between two refreshes: the same every time, so that what one of
        them wrote is not needed by the next. The row of a NEXT model's first target lies one before it."""
        behind, ahead = self.looks
        if self.options.reuse == "prefix":
            ahead = seq.length
        return max(0, start - max(behind, self.shift)), min(seq.length, end + ahead)

    @property
    def _measured(self) -> StepTime | None:
        """What a step costs, where it depends on the block."""
        return self.time if self.options.reuse in ("dual", "vicinity") else None

    @property
    def _around(self) -> int:
        """Positions of a window around a block, as long as the block is not known."""
        return sum(self._looks_at(BLOCK))

    def _looks_at(self, size: int) -> tuple[int, int]:
        if self.options.reuse != "vicinity":
            return 0, 0
        look = LOOK if self._measured is None else block_length.widest(self._measured, size)
        behind, ahead = self.options.look_behind, self.options.look_ahead
        return look if behind is None else behind, look if ahead is None else ahead

    def _window(self, seq: Sequence, start: int, end: int, targets: Any) -> Window:
        soft = smoothing.soft_input(self.options, seq, start, end, seq.scratch.get("steps", 0))
        rows = targets - self.shift - start
        remember = self.options.remembered
        if self.options.guidance:
            return self._guided(seq, rows, targets, soft)
        keep = end if self.approximates else start
        pattern = FULL if end == seq.length else full(seq.length)
        return Window(
            start, end, rows, targets, pattern, keep, Slot.APPROX, soft=soft, remember=remember
        )

    def _guided(self, seq: Sequence, rows: Any, targets: Any, soft: Soft | None) -> Window:
        length = seq.length
        without = np.where(self._given(seq), self.mask_token, seq.tokens).astype(np.int32)
        mask = np.kron(np.eye(2, dtype=np.bool_), np.ones((length, length), np.bool_))
        if soft is not None:
            parts = zip(soft, (soft.rows + length, soft.tokens, soft.weights), strict=True)
            soft = Soft(*(np.concatenate(pair) for pair in parts))
        return Window(
            0,
            2 * length,
            np.concatenate([rows, rows + length]),
            targets,
            Pattern(PatternKind.TREE, 0, mask),
            mark=Slot.APPROX,
            positions=np.tile(np.arange(length, dtype=np.int32), 2),
            tokens=np.concatenate([seq.tokens, without]),
            soft=soft,
            remember=self.options.remembered,
            guidance=self.options.guidance,
        )

    def _given(self, seq: Sequence) -> Any:
        """Which positions were given, bool [length]."""
        given = np.ones(seq.length, np.bool_)
        given[seq.prompt_length :] = bool(seq.params.infill)
        for start, end in seq.params.infill:
            given[start:end] = False
        return given
