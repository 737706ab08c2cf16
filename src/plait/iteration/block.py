"""Block diffusion: the canvas grows by blocks of masked positions, each decided in a few forwards.

For models that attend in both directions inside a block and causally across blocks (BD3-LM,
arXiv:2503.09573; SDAR; LLaDA2). Blocks count from slot 0, so the end of a prompt that does not fill its
block is the beginning of the first block to be decided.

One rule gives every window. With s = start of the block that holds the first masked position and
e = s + block size:

    feed [stored, e), keep [stored, s), want the rows of the masked positions

While a block is being decided stored = s, so the window is the block and nothing is kept, because what a
slot saw may still change. When it is decided and the next one opens, stored lies a block behind, and the
same rule feeds both: the forward that stores the decided block is the first of the new one (the merged
commit of dInfer; with `merge` off a forward of its own stores the block). A long prompt is the same thing in
pieces that are whole blocks. The last block is never stored.

For a model that predicts the NEXT token, the row of target i is i - 1; when the block's first position is
masked, the window begins one slot earlier.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from plait.core.errors import ContextLengthError, UserError
from plait.core.sequence import Sequence
from plait.core.traits import Predicts, Traits
from plait.core.window import Ints, PatternKind, Update, Window, block
from plait.iteration import base, blocks, smoothing

SUMMARY = "block diffusion: decide blocks of masked positions, several tokens per forward"


@dataclass(frozen=True, slots=True)
class Options(smoothing.Options):
    """block_size: positions that see each other, whatever is decided; not given: as many as the model was trained
    with, and another number makes another attention of it.

    sub_block_size: positions of a block decided together, from left to right (Fast-dLLM v2, arXiv:2509.26328);
    not given: the block. merge: whether the forward that stores a block is the first of the next one. early_stop:
    nothing is decided behind a token that ends the answer, except by decoders that edit.
    """

    block_size: int | None = None
    sub_block_size: int | None = None
    merge: bool = True
    early_stop: bool = True

    def __post_init__(self) -> None:
        smoothing.Options.__post_init__(self)
        if self.block_size is not None and self.block_size < 1:
            raise UserError(
                f"block_size={self.block_size} is out of range",
                "1 or more, or leave it out for the size that the model was trained with",
            )
        if self.sub_block_size is not None and self.sub_block_size < 1:
            raise UserError(f"sub_block_size={self.sub_block_size} is out of range", "1 or more")


class Planner(base.Planner):
    """For block-causal models with a mask token."""

    default_decoder = "threshold"
    kinds = (PatternKind.BLOCK,)
    waits = True
    walks = True
    options: Options

    def __init__(self, options: Any, traits: Traits) -> None:
        super().__init__(options, traits)
        if traits.pattern.kind not in self.kinds:
            raise UserError(
                "planner: this model does not generate by blocks",
                "use the planner 'autoregressive' or 'auto'",
            )
        blocks.mask_token(traits)
        self.size = options.block_size or traits.pattern.size
        self.part = options.sub_block_size or self.size
        if self.size % self.part:
            raise UserError(
                f"sub_block_size={self.part} does not divide blocks of {self.size}",
                "a divisor of it",
            )
        self.pattern = block(self.size)
        self.shift = 1 if traits.predicts is Predicts.NEXT else 0
        self.needs_slots = not options.merge

    @property
    def smallest_window(self) -> int:
        return self.size + self.shift

    def admit(self, seq: Sequence) -> None:
        """Opens the first block. Raises ContextLengthError when no whole block is left for it."""
        if seq.params.prompt_logprobs is not None:
            raise UserError(
                "prompt_logprobs needs a model that predicts the next token from those before it",
                "leave it out for models that generate by blocks",
            )
        room = self.traits.context_length // self.size * self.size
        if seq.length >= room:
            raise ContextLengthError(
                f"the prompt has {seq.length} tokens, but only {room} of the context of "
                f"{self.traits.context_length} fill whole blocks of {self.size}",
                "shorten the prompt",
            )
        seq.limit = min(seq.limit, room)
        self._open_block(seq)

    def span(self, seq: Sequence) -> int:
        return -(-seq.limit // self.size) * self.size

    def next(self, seq: Sequence, stored: int, budget: int) -> Window | None:
        first = seq.final // self.size * self.size
        early = self.options.early_stop
        targets = blocks.targets(seq, *self._part(seq), self.traits, early_stop=early)
        start = min(stored, first, int(targets[0]) - self.shift)
        is_stored = stored >= first or self.options.merge
        if is_stored and seq.length - start <= budget:
            return self._deciding(seq, start, targets, keep=first)
        end = min(first, (stored + budget) // self.size * self.size)
        return Window(stored, end, pattern=self.pattern, keep=end) if end > stored else None

    def _deciding(self, seq: Sequence, start: int, targets: Ints, keep: int) -> Window:
        steps = seq.scratch.get("steps", 0)
        return Window(
            start,
            seq.length,
            targets - self.shift - start,
            targets,
            self.pattern,
            keep,
            soft=smoothing.soft_input(self.options, seq, start, seq.length, steps),
            remember=self.options.remembered,
        )

    def absorb(self, seq: Sequence, window: Window, update: Update) -> None:
        blocks.note_step(seq, window)
        if blocks.is_kept_open(seq, window, update):
            return
        masked = np.flatnonzero(seq.masked[seq.final :])
        part = self._part(seq)
        seq.final = seq.final + int(masked[0]) if len(masked) else seq.length
        if seq.final < seq.length and self._part(seq) != part:
            blocks.begin_block(seq, *self._part(seq))
        if seq.final == seq.length and seq.final < seq.limit:
            self._open_block(seq)

    def _part(self, seq: Sequence) -> tuple[int, int]:
        """The sub-block that holds the first position which is not final."""
        start = seq.final // self.part * self.part
        return start, min(start + self.part, seq.length)

    def _open_block(self, seq: Sequence) -> None:
        end = (seq.length // self.size + 1) * self.size
        blocks.open_positions(seq, end - seq.length, self.traits)
        blocks.begin_block(seq, *self._part(seq))
