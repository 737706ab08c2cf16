"""The block planner: which slots, which rows, what is kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from plait.core.errors import ContextLengthError, UserError
from plait.core.params import SamplingParams
from plait.core.sequence import Sequence
from plait.core.traits import Predicts
from plait.core.window import Update, Window, block
from plait.iteration.block import Options, Planner
from tests.fakes import BLOCK_TRAITS, CAUSAL_TRAITS, MASK

SAME = Planner(Options(), BLOCK_TRAITS)
NEXT = Planner(Options(), replace(BLOCK_TRAITS, predicts=Predicts.NEXT))


def sequence(planner: Planner, prompt: int, max_tokens: int) -> Sequence:
    seq = Sequence(
        1,
        np.arange(prompt, dtype=np.int32),
        SamplingParams(max_tokens=max_tokens),
        limit=prompt + max_tokens,
        seed=0,
    )
    planner.admit(seq)
    return seq


def shape(window: Window | None) -> tuple[int, int, int, list[int]]:
    assert window is not None
    return window.start, window.end, window.keep, window.targets.tolist()


def write(planner: Planner, seq: Sequence, *positions: int) -> None:
    update = Update(np.array(positions, np.int32), np.full(len(positions), 9, np.int32))
    seq.apply(update, MASK)
    planner.absorb(seq, Window(0, seq.length), update)


def test_a_part_of_a_block_at_the_prompts_end_is_decided_with_the_rest() -> None:
    seq = sequence(SAME, 21, 30)
    assert seq.length == 24
    assert np.flatnonzero(seq.masked).tolist() == [21, 22, 23]
    window = SAME.next(seq, 0, 100)
    assert shape(window) == (0, 24, 16, [21, 22, 23])
    assert window is not None
    assert window.pattern == block(8)
    assert shape(SAME.next(seq, 16, 100)) == (16, 24, 16, [21, 22, 23])


def test_prompt_chunks_are_whole_blocks() -> None:
    seq = sequence(SAME, 40, 8)
    assert shape(SAME.next(seq, 0, 30)) == (0, 24, 24, [])
    assert shape(SAME.next(seq, 24, 8)) == (24, 32, 32, [])
    assert SAME.next(seq, 24, 7) is None
    assert shape(SAME.next(seq, 32, 8)) == (32, 40, 40, [])
    assert shape(SAME.next(seq, 40, 8)) == (40, 48, 40, list(range(40, 48)))


def test_a_decided_block_is_stored_by_the_first_forward_of_the_next() -> None:
    seq = sequence(SAME, 8, 16)
    write(SAME, seq, 8, 10)
    assert (seq.final, seq.length) == (9, 16)
    write(SAME, seq, 9, 11, 12, 13, 14, 15)
    assert (seq.final, seq.length) == (16, 24)
    assert shape(SAME.next(seq, 8, 100)) == (8, 24, 16, list(range(16, 24)))
    # With too little budget for both, storing comes first.
    assert shape(SAME.next(seq, 8, 15)) == (8, 16, 16, [])


def test_the_last_block_is_fed_whole_and_never_stored() -> None:
    seq = sequence(SAME, 8, 3)
    assert (seq.limit, seq.length, SAME.span(seq)) == (11, 16, 16)
    write(SAME, seq, 8, 9, 10)
    assert seq.is_complete
    write(SAME, seq, 11, 12, 13, 14, 15)
    assert seq.length == 16


def test_next_models_start_a_slot_earlier_for_the_first_position() -> None:
    seq = sequence(NEXT, 16, 20)
    window = NEXT.next(seq, 16, 100)
    assert shape(window) == (15, 24, 16, list(range(16, 24)))
    assert window is not None
    assert window.rows.tolist() == list(range(8))
    write(NEXT, seq, 16)
    assert shape(NEXT.next(seq, 16, 100)) == (16, 24, 16, list(range(17, 24)))
    assert NEXT.smallest_window == 9
    seq = sequence(NEXT, 16, 20)
    assert NEXT.next(seq, 16, 8) is None


def test_the_context_bounds_whole_blocks() -> None:
    planner = Planner(Options(), replace(BLOCK_TRAITS, context_length=30))
    seq = sequence(planner, 10, 100)
    assert (seq.limit, planner.span(seq)) == (24, 24)
    with pytest.raises(ContextLengthError, match="24") as refusal:
        sequence(planner, 25, 1)
    assert "25" in refusal.value.message


def test_the_block_size_is_an_option() -> None:
    planner = Planner(Options(block_size=4), BLOCK_TRAITS)
    seq = sequence(planner, 5, 10)
    assert shape(planner.next(seq, 0, 100)) == (0, 8, 4, [5, 6, 7])
    with pytest.raises(UserError, match="block_size"):
        Options(block_size=-1)


def test_what_it_cannot_honour_is_refused() -> None:
    with pytest.raises(UserError, match="by blocks"):
        Planner(Options(), CAUSAL_TRAITS)
    with pytest.raises(UserError, match="mask token") as refusal:
        Planner(Options(), replace(BLOCK_TRAITS, mask_token=None))
    assert "mask_token_id" in refusal.value.hint
    with pytest.raises(UserError, match="block_size=0") as refusal:
        Options(block_size=0)
    assert "leave it out" in refusal.value.hint
    seq = Sequence(
        1, np.arange(3, dtype=np.int32), SamplingParams(prompt_logprobs=1), limit=9, seed=0
    )
    with pytest.raises(UserError, match="prompt_logprobs"):
        SAME.admit(seq)
