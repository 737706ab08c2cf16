"""The autoregressive planner: chunks, single tokens, prompt scoring."""

from __future__ import annotations

import numpy as np
import pytest

from plait.core.errors import UserError
from plait.core.params import SamplingParams
from plait.core.sequence import Sequence
from plait.core.window import TokenLogprobs, Update, Window
from plait.iteration.autoregressive import PROMPT_ROWS, Options, Planner
from tests.fakes import BLOCK_TRAITS, CAUSAL_TRAITS

PLANNER = Planner(Options(), CAUSAL_TRAITS)


def sequence(prompt: int, max_tokens: int = 5, **params: int) -> Sequence:
    return Sequence(
        1,
        np.arange(prompt, dtype=np.int32),
        SamplingParams(max_tokens=max_tokens, **params),  # type: ignore[arg-type]
        limit=prompt + max_tokens,
        seed=0,
    )


def shape(window: Window | None) -> tuple[int, int, list[int]]:
    assert window is not None
    assert window.keep == window.end
    return window.start, window.end, window.rows.tolist()


def test_a_prompt_goes_in_chunks_and_wants_its_last_row_only() -> None:
    seq = sequence(10)
    assert shape(PLANNER.next(seq, 0, 4)) == (0, 4, [])
    assert shape(PLANNER.next(seq, 4, 4)) == (4, 8, [])
    assert shape(PLANNER.next(seq, 8, 4)) == (8, 10, [1])
    assert shape(PLANNER.next(seq, 0, 100)) == (0, 10, [9])


def test_a_canvas_that_is_stored_to_its_end_feeds_its_last_token_again() -> None:
    assert shape(PLANNER.next(sequence(10), 10, 100)) == (9, 10, [0])


def test_decoding_feeds_one_token() -> None:
    seq = sequence(10)
    window = PLANNER.next(seq, 0, 100)
    assert window is not None
    update = Update(np.array([10], np.int32), np.array([3], np.int32))
    seq.apply(update)
    PLANNER.absorb(seq, window, update)
    assert seq.final == 11
    assert shape(PLANNER.next(seq, 10, 100)) == (10, 11, [0])


def score(seq: Sequence, window: Window) -> None:
    found = {int(t): TokenLogprobs(-1.0, 1, {}) for t in window.targets if t < seq.prompt_length}
    seq.apply(Update(logprobs=found))
    PLANNER.absorb(seq, window, Update(logprobs=found))


@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize("max_tokens", [0, 5])
def test_scoring_wants_every_row_once_and_never_many_together(keeps: bool, max_tokens: int) -> None:
    seq = sequence(3 * PROMPT_ROWS, max_tokens, prompt_logprobs=1)
    wanted: list[int] = []
    stored = 0
    while not seq.is_scored:
        window = PLANNER.next(seq, stored, 1000)
        assert window is not None
        assert 1 <= len(window.rows) <= PROMPT_ROWS
        wanted += window.targets.tolist()
        score(seq, window)
        stored = window.keep if keeps else 0
    first_new = [seq.prompt_length] if max_tokens else []
    assert wanted == list(range(1, seq.prompt_length)) + first_new
    assert seq.is_complete == (max_tokens == 0)


def test_scoring_goes_on_where_it_was_after_a_preemption() -> None:
    seq = sequence(200, prompt_logprobs=0)
    window = PLANNER.next(seq, 0, 1000)
    assert window is not None
    score(seq, window)
    assert seq.scored == PROMPT_ROWS + 1
    assert shape(PLANNER.next(seq, 0, 10)) == (0, 10, [])
    assert shape(PLANNER.next(seq, 60, 10)) == (60, 70, list(range(4, 10)))


def test_scoring_goes_back_behind_what_is_stored() -> None:
    seq = sequence(200, prompt_logprobs=0)
    assert shape(PLANNER.next(seq, 150, 10)) == (0, 10, list(range(10)))


def test_a_prompt_of_one_token_has_nothing_to_score() -> None:
    seq = sequence(1, 0, prompt_logprobs=0)
    assert seq.is_complete
    assert shape(PLANNER.next(seq, 0, 10)) == (0, 1, [])


def test_other_models_are_refused() -> None:
    with pytest.raises(UserError, match="left to right") as refusal:
        Planner(Options(), BLOCK_TRAITS)
    assert "block" in refusal.value.hint
