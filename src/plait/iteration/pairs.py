"""Requests with a second stream (`Sequence.second`): the same answer behind another prompt, in the same forward.

Both streams grow by the same tokens, so their lengths always differ by the same number. Each has slots of its own. The
planner lays out the windows of the first; the second goes along from where its slots end with what the step has left.
A token is decided only in a forward that reaches the end of both: until then neither has its last row computed, and
who arrives first feeds its last position again.
"""

from __future__ import annotations

import numpy as np

from plait.core.errors import ContextLengthError, UserError
from plait.core.sequence import Sequence
from plait.core.traits import Traits
from plait.core.window import NO_INTS, Ints, Update, Window
from plait.iteration.base import Request


def attach(requests: list[Request], traits: Traits) -> None:
    """Give new requests the second streams that their decoders want, if they want any. Raises UserError."""
    for request in requests:
        _attach(request, traits)


def _attach(request: Request, traits: Traits) -> None:
    seq = request.seq
    prompt = request.decoder.second_prompt(seq.tokens)
    if prompt is None:
        return
    if not len(prompt):
        raise UserError("the second prompt is empty", "at least one token is needed")
    if len(prompt) >= traits.context_length:
        raise ContextLengthError(
            f"the second prompt has {len(prompt)} tokens, but the context holds {traits.context_length}",
            "give a shorter one",
        )
    longer = max(0, len(prompt) - seq.length)
    seq.limit = min(seq.limit, traits.context_length - longer)
    limit = seq.limit + len(prompt) - seq.length
    seq.second = Sequence(
        ~seq.request_id, prompt, seq.params, limit=limit, seed=seq.seed, salt=seq.salt
    )


def synchronised(
    seq: Sequence, window: Window, stored: int, left: int
) -> tuple[Window, Window | None]:
    """The windows of both streams in one forward; the second may have none.

    window: what the planner wants of the first. stored: slots of the second that need no computing. left: positions
    that there are for it.
    """
    second = seq.second
    assert second is not None
    if seq.length >= seq.limit:  # nothing will be decided
        return window, None
    start = min(stored, second.length - 1)
    end = min(second.length, start + left)
    decides = bool(len(window.targets)) and window.targets.item(-1) == seq.length
    if decides and end == second.length:
        return window, _feeding(start, end, np.array([end - 1 - start], np.int32))
    is_scored = window.targets < seq.length
    window = window._replace(rows=window.rows[is_scored], targets=window.targets[is_scored])
    return window, _feeding(start, end, NO_INTS) if end > max(start, stored) else None


def _feeding(start: int, end: int, rows: Ints) -> Window:
    return Window(start, end, rows, rows + np.int32(start + 1), keep=end)


def follow(seq: Sequence, update: Update) -> None:
    """Write in the second stream what is written in the first."""
    second = seq.second
    assert second is not None
    if not len(update.positions):
        return
    behind = np.int32(second.length - update.positions.item(0))
    second.apply(Update(update.positions + behind, update.tokens))
    second.final = second.length
