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
commit of dInfer). A long prompt is the same thing in pieces that are whole blocks. The last block is never
stored.

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
from plait.core.window import PatternKind, Update, Window, block
from plait.iteration import base

SUMMARY = "block diffusion: decide blocks of masked positions, several tokens per forward"


@dataclass(frozen=True, slots=True)
class Options:
    """block_size: positions decided together; 0 is the size the model was trained with."""

    block_size: int = 0

    def __post_init__(self) -> None:
        if self.block_size < 0:
            raise UserError(f"block_size={self.block_size} is out of range", "0 or more")


class Planner(base.Planner):
    """For block-causal models with a mask token."""

    default_decoder = "threshold"

    def __init__(self, options: Any, traits: Traits) -> None:
        super().__init__(options, traits)
        if traits.pattern.kind is not PatternKind.BLOCK or traits.mask_token is None:
            raise UserError(
                "this model does not generate by blocks",
                "use the planner 'autoregressive' or 'auto'",
            )
        self.mask_token = traits.mask_token
        self.size = options.block_size or traits.pattern.size
        self.pattern = block(self.size)
        self.shift = 1 if traits.predicts is Predicts.NEXT else 0

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
        targets = first + np.flatnonzero(seq.masked[first:]).astype(np.int32)
        start = min(stored, first, int(targets[0]) - self.shift)
        if seq.length - start <= budget:
            rows = targets - self.shift - start
            return Window(start, seq.length, rows, targets, self.pattern, keep=first)
        end = min(first, (stored + budget) // self.size * self.size)
        return Window(stored, end, pattern=self.pattern, keep=end) if end > stored else None

    def absorb(self, seq: Sequence, window: Window, update: Update) -> None:
        masked = np.flatnonzero(seq.masked[seq.final :])
        seq.final = seq.final + int(masked[0]) if len(masked) else seq.length
        if seq.final == seq.length and seq.final < seq.limit:
            self._open_block(seq)

    def _open_block(self, seq: Sequence) -> None:
        end = (seq.length // self.size + 1) * self.size
        seq.extend(end - seq.length, self.mask_token, masked=True)
