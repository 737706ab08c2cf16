"""StepCost: predictions along the measured lines, and its file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from plait.analysis import drive, steps
from plait.analysis.step_cost import Setup, StepCost
from plait.core.errors import UserError
from plait.core.traits import Traits
from tests.fakes import BLOCK_TRAITS, FULL_TRAITS, make_engine, runner_of

SETUP = Setup("a model", "a processor", "generic", 2, "int8", "f16", "0.1")
COST = StepCost(SETUP, (0, 100), (1, 2, 4), ((1.0, 2.0, 6.0), (2.0, 3.0, 7.0)), (1, 3), (0.5, 0.7))


@pytest.mark.parametrize(
    ("num_tokens", "context", "num_logits", "seconds"),
    [
        (1, 0, 0, 1.0),
        (2, 0, 0, 2.0),
        (3, 0, 0, 4.0),
        (8, 0, 0, 14.0),
        (1, 50, 0, 1.5),
        (1, 200, 0, 3.0),
        (1, 0, 1, 1.5),
        (1, 0, 2, 1.6),
        (1, 0, 5, 1.9),
        (3, 50, 3, 5.2),
    ],
)
def test_between_and_beyond_the_points(
    num_tokens: int, context: int, num_logits: int, seconds: float
) -> None:
    assert COST.predict(num_tokens, context, num_logits) == pytest.approx(seconds)


def test_one_point_alone_is_its_value() -> None:
    lonely = StepCost(SETUP, (0,), (1,), ((2.0,),), (), ())
    assert lonely.predict(9, 9, 9) == 2.0


def test_what_is_saved_is_loaded_again(tmp_path: Path) -> None:
    assert StepCost.load(SETUP, tmp_path) is None
    COST.save(tmp_path)
    found = StepCost.load(SETUP, tmp_path)
    assert found is not None
    assert found.predict(3, 50, 2) == COST.predict(3, 50, 2)
    assert StepCost.load(replace(SETUP, processor="another"), tmp_path) is None
    for other in ({"threads": 1}, {"activations": "f32"}, {"kv": "int8"}, {"version": "0.2"}):
        assert StepCost.load(replace(SETUP, **other), tmp_path) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"setup": {}}', "[1", "null", "\xff"])
def test_a_damaged_file_is_no_measurement(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = COST.save(tmp_path)
    file.write_text(text, encoding="latin-1")
    assert StepCost.load(SETUP, tmp_path) is None
    assert str(file) in caplog.text
    assert "plait bench step" in caplog.text


@pytest.mark.parametrize(
    "changed",
    [
        {"tokens": [1, 4, 2]},
        {"tokens": [1, 2]},
        {"tokens": []},
        {"contexts": [0]},
        {"contexts": []},
        {"logits": ["1", "3"]},
        {"head_seconds": [0.5]},
        {"head_seconds": [0.5, float("nan")]},
        {"chunk_seconds": [[1.0, 2.0, -6.0], [2.0, 3.0, 7.0]]},
        {"chunk_seconds": [[1.0, 2.0], [2.0, 3.0, 7.0]]},
        {"chunk_seconds": None},
        {"more": 1},
    ],
)
def test_a_file_that_does_not_add_up_is_no_measurement(
    tmp_path: Path, changed: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    file = COST.save(tmp_path)
    file.write_text(json.dumps({**json.loads(file.read_text()), **changed}))
    assert StepCost.load(SETUP, tmp_path) is None
    assert str(file) in caplog.text


def test_nothing_is_said_where_nothing_was_measured(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    COST.save(tmp_path)
    assert StepCost.load(replace(SETUP, version="0.2"), tmp_path) is None
    assert StepCost.load(replace(SETUP, model="other"), tmp_path) is None
    assert caplog.text == ""


def test_the_steps_are_those_that_were_asked_for() -> None:
    engine = make_engine(num_pages=64, max_num_batched_tokens=64, cache="paged")
    cost = steps.measure(
        engine, SETUP, tokens=(1, 3, 8), contexts=(0, 40, 5000), logits=(1, 4), passes=2
    )
    assert (cost.contexts, cost.tokens, cost.logits) == ((0, 40), (1, 3, 8), (1, 4))
    windows = [window for batch in runner_of(engine).batches for _, window in batch]
    for context in (0, 40):
        chunks = [w.length for w in windows if w.start == context and not len(w.rows)]
        assert [n for n in chunks if n in (1, 3, 8)][:9] == [1, 3, 8] * 3
    assert len(cost.chunk_seconds) == 2
    assert all(second > 0 for row in cost.chunk_seconds for second in row)
    assert not engine.has_work
    assert engine.scheduler.max_num_batched_tokens == 64
    engine.scheduler.cache.check()


@pytest.mark.parametrize("traits", [FULL_TRAITS, BLOCK_TRAITS], ids=["full", "block"])
def test_of_a_model_that_sees_ahead_single_windows_are_measured(traits: Traits) -> None:
    engine = make_engine(traits, cache="paged")
    cost = steps.measure(
        engine, SETUP, tokens=(1, 3, 8), contexts=(0, 40, 5000), logits=(1, 4), passes=2
    )
    assert (cost.contexts, cost.tokens, cost.logits) == ((0, 40), (1, 3, 8), (1, 4))
    cost.check()
    windows = [batch[0][1] for batch in runner_of(engine).batches]
    assert [(w.start, w.length, len(w.rows)) for w in windows] == [
        *([(0, 1, 0), (0, 3, 0), (0, 8, 0)] * 3),
        *([(40, 1, 0), (40, 3, 0), (40, 8, 0)] * 3),
        *([(0, 4, 0), (0, 4, 1), (0, 4, 4)] * 3),
    ]
    assert all(window.pattern == traits.pattern for window in windows)
    engine.scheduler.cache.check()
    assert engine.scheduler.cache.pool.num_free == engine.scheduler.cache.pool.num_pages


def test_no_context_is_refused() -> None:
    with pytest.raises(UserError):
        steps.measure(make_engine(cache="paged"), SETUP, contexts=(100_000,))


def test_steps_are_not_measured_where_they_would_be_found_cached() -> None:
    with pytest.raises(UserError, match="found cached"):
        steps.measure(make_engine(), SETUP)


def test_a_prompt_that_was_found_cached_is_no_measurement() -> None:
    engine = make_engine()
    assert drive.prefill(engine, drive.random_prompt(engine, 70, 1)) > 0
    assert drive.prefill(engine, drive.random_prompt(engine, 70, 2)) > 0
    with pytest.raises(RuntimeError, match="begins like an earlier one"):
        drive.prefill(engine, drive.random_prompt(engine, 70, 1))


def test_filled_requests_decode_together() -> None:
    engine = make_engine(max_num_batched_tokens=16)
    ids = drive.fill(engine, [drive.random_prompt(engine, 30, i) for i in range(3)], copies=2)
    assert len(set(ids)) == 6
    assert len(drive.decode(engine, 6, 4)) == 4
    with pytest.raises(RuntimeError, match="6 tokens to 5 requests"):
        drive.decode(engine, 5, 1)
    drive.end(engine, ids)
    assert not engine.has_work


def test_more_requests_than_run_at_once_are_refused() -> None:
    engine = make_engine(max_num_seqs=2)
    with pytest.raises(UserError, match="do not run at once"):
        drive.fill(engine, [drive.random_prompt(engine, 5, 0)], copies=3)


def test_prefill_ends_with_the_first_token() -> None:
    engine = make_engine(max_num_batched_tokens=8)
    assert drive.prefill(engine, drive.random_prompt(engine, 20, 0)) > 0
    assert not engine.has_work
    assert engine.metrics.num_tokens == 1
