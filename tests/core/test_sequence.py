"""Sequence: a canvas whose final part never changes."""

from __future__ import annotations

import numpy as np
import pytest

from plait.core.params import SamplingParams
from plait.core.sequence import Sequence
from plait.core.window import FinishReason, TokenLogprobs, Update

MASK = 99


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def new(*prompt: int, limit: int = 32) -> Sequence:
    return Sequence(1, ints(*prompt), SamplingParams(), limit=limit, seed=5)


def test_a_prompt_is_final_from_the_start_and_may_hold_the_mask_id() -> None:
    seq = new(MASK, 2, MASK)
    assert (seq.length, seq.final, seq.prompt_length) == (3, 3, 3)
    assert not seq.masked.any()
    assert not seq.is_finished


def test_the_canvas_is_a_copy_of_the_prompt() -> None:
    prompt = ints(1, 2, 3)
    seq = Sequence(1, prompt, SamplingParams(), limit=8, seed=0)
    prompt[0] = 77
    assert seq.tokens.tolist() == [1, 2, 3]


def test_extending_keeps_what_was_there_however_often_it_grows() -> None:
    seq = new(1)
    for token in range(2, 200):
        seq.extend(1, token, masked=token % 2 == 0)
    assert seq.tokens.tolist() == list(range(1, 200))
    assert seq.masked.tolist() == [False] + [token % 2 == 0 for token in range(2, 200)]


def test_an_update_at_the_length_appends() -> None:
    seq = new(1, 2)
    seq.apply(Update(positions=ints(2), tokens=ints(7)))
    assert seq.tokens.tolist() == [1, 2, 7]
    assert not seq.masked.any()


def test_an_update_beyond_the_length_leaves_masked_positions_between() -> None:
    seq = new(1, 2)
    seq.apply(Update(positions=ints(4), tokens=ints(7)), MASK)
    assert seq.tokens.tolist() == [1, 2, MASK, MASK, 7]
    assert seq.masked.tolist() == [False, False, True, True, False]


def test_positions_are_unmasked_and_masked_again() -> None:
    seq = new(1)
    seq.extend(3, MASK, masked=True)
    seq.apply(Update(positions=ints(2, 3), tokens=ints(8, 9)), MASK)
    assert seq.tokens.tolist() == [1, MASK, 8, 9]
    seq.apply(Update(remask=ints(2)), MASK)
    assert seq.tokens.tolist() == [1, MASK, MASK, 9]
    assert seq.masked.tolist() == [False, True, True, False]


@pytest.mark.parametrize(
    "update",
    [Update(positions=ints(1), tokens=ints(5)), Update(remask=ints(1))],
    ids=["write", "remask"],
)
def test_a_final_position_cannot_change(update: Update) -> None:
    seq = new(1, 2, 3)
    with pytest.raises(AssertionError, match="final"):
        seq.apply(update)
    assert seq.tokens.tolist() == [1, 2, 3]


def test_truncating_takes_final_along() -> None:
    seq = new(1, 2, 3, 4)
    seq.truncate(2)
    assert seq.tokens.tolist() == [1, 2]
    assert seq.final == 2
    seq.extend(1, 6, masked=False)
    assert seq.tokens.tolist() == [1, 2, 6]


def test_a_fork_goes_its_own_way() -> None:
    seq = new(1, 2)
    seq.extend(2, MASK, masked=True)
    seq.scratch["seen"] = [1]
    seq.logprobs[1] = TokenLogprobs(-0.5, 1, {})
    twin = seq.fork(2, seed=6)
    assert twin.tokens.tolist() == seq.tokens.tolist()
    assert twin.masked.tolist() == [False, False, True, True]
    assert (twin.request_id, twin.seed, twin.prompt_length, twin.final) == (2, 6, 2, 2)
    twin.apply(Update(positions=ints(2), tokens=ints(8)), MASK)
    twin.scratch["seen"].append(2)
    twin.logprobs.clear()
    assert seq.tokens.tolist() == [1, 2, MASK, MASK]
    assert seq.masked.tolist() == [False, False, True, True]
    assert seq.scratch == {"seen": [1]}
    assert seq.logprobs


def test_a_finish_reason_ends_it() -> None:
    seq = new(1)
    seq.finish_reason = FinishReason.STOP
    assert seq.is_finished
    assert seq.finish_reason == "stop"


def test_reopening_masks_stretches_and_keeps_what_is_between() -> None:
    seq = Sequence(1, np.array([5, 6, 7, 8, 9], np.int32), SamplingParams(), limit=9, seed=0)
    seq.reopen([(1, 2), (3, 5)], 60)
    assert seq.tokens.tolist() == [5, 60, 7, 60, 60]
    assert seq.masked.tolist() == [False, True, False, True, True]
    assert (seq.prompt_length, seq.final, seq.emitted) == (1, 1, 1)


def test_an_update_may_leave_memory_and_noise() -> None:
    seq = Sequence(1, np.array([5, 6], np.int32), SamplingParams(), limit=9, seed=0)
    seq.extend(2, 60, masked=True)
    seq.apply(Update(remask=np.array([2, 3]), noise=np.array([7, 8]), memory={"a": 1}), 60)
    assert seq.tokens.tolist() == [5, 6, 7, 8]
    assert seq.masked.tolist() == [False, False, True, True]
    assert seq.scratch == {"a": 1}
