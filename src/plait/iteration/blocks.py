"""What planners of masked canvases share: which positions a step is to decide, and how far a block has come.

In `seq.scratch` they leave, for themselves and for decoders: "steps", deciding forwards of the request;
"block_steps", those of the block; "opened", how many positions were open when the block began.
"""

from __future__ import annotations

import numpy as np

from plait.core.errors import UserError
from plait.core.sequence import Sequence
from plait.core.traits import Traits
from plait.core.window import Ints, Update, Window
from plait.decoding.base import noise


def mask_token(traits: Traits) -> int:
    """What undecided positions are filled with; 0, to be drawn over, where they hold noise.

    Raises UserError for a model that has neither.
    """
    if traits.mask_token is None and not traits.starts_from_noise:
        raise UserError(
            "the model names no mask token",
            "give its configuration a mask_token_id, or use another planner",
        )
    return traits.mask_token or 0


def open_positions(seq: Sequence, count: int, traits: Traits) -> None:
    """Lengthen the canvas by undecided positions."""
    first = seq.length
    seq.extend(count, mask_token(traits), masked=True)
    if traits.starts_from_noise:
        seq.tokens[first:] = noise(seq, np.arange(first, seq.length, dtype=np.int32), 0, traits)


def begin_block(seq: Sequence, start: int, end: int) -> None:
    """Note that [start, end) is to be decided from here on."""
    seq.scratch["block_steps"] = 0
    seq.scratch["opened"] = int(np.count_nonzero(seq.masked[start:end]))


def note_step(seq: Sequence, window: Window) -> None:
    """Count a forward that decided something; not one that only computed what was lost."""
    if len(window.targets):
        seq.scratch["steps"] = seq.scratch.get("steps", 0) + 1
        seq.scratch["block_steps"] += 1


def is_kept_open(seq: Sequence, window: Window, update: Update) -> bool:
    """Whether a decoder that edits has not come to rest; the tokens it wrote are then not final."""
    if not seq.edits:
        return False
    return not len(window.targets) or not update.settled or bool(seq.masked[window.targets].any())


def targets(seq: Sequence, start: int, end: int, traits: Traits, *, early_stop: bool) -> Ints:
    """Positions of [start, end) to be decided; to a decoder that edits also those that are not final.

    early_stop: none behind a token that ends the answer, as long as there are others.
    """
    if seq.edits:
        return np.arange(max(start, seq.final), end, dtype=np.int32)
    masked = start + np.flatnonzero(seq.masked[start:end]).astype(np.int32)
    if not early_stop or not (stops := seq.stop_ids(traits.eos_ids)):
        return masked
    first = max(start, seq.prompt_length + seq.params.min_tokens)
    written = np.flatnonzero(~seq.masked[first:end])
    ends = next((p for p in written if int(seq.tokens[first + p]) in stops), None)
    before = masked if ends is None else masked[masked < first + ends]
    return before if len(before) else masked
