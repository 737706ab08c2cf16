"""Caps of one request, deadlines, tenants: what is refused, what is cut, and when."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from plait.core.errors import ContextLengthError, UserError
from plait.core.params import SamplingParams
from plait.core.traits import Traits
from plait.core.window import FinishReason
from plait.engine.engine import Engine
from plait.engine.worker import Worker
from tests.fakes import (
    BLOCK_TRAITS,
    CAUSAL_TRAITS,
    FULL_TRAITS,
    Answer,
    drain,
    make_engine,
    runner_of,
    step,
)

FREE = SamplingParams(temperature=0.0, max_tokens=None, ignore_eos=True)
LONG = replace(FREE, max_tokens=3000)
BOTH = pytest.mark.parametrize("traits", [CAUSAL_TRAITS, BLOCK_TRAITS], ids=["causal", "block"])


def answers_of(engine: Engine, params: SamplingParams, prompt: int = 10) -> list[Answer]:
    first = engine.add([1] * prompt, params)
    answers = drain(engine)
    return [answers[first + choice] for choice in range(params.n)]


def test_more_choices_than_tokens_are_refused() -> None:
    engine = make_engine(max_request_tokens=2)
    with pytest.raises(UserError, match="3 choices.* 2 tokens"):
        engine.add([1], replace(FREE, n=3, temperature=1.0))
    assert not engine.has_work


@BOTH
def test_the_cap_of_tokens_ends_a_request_that_named_no_number(traits: Traits) -> None:
    engine = make_engine(traits, max_request_tokens=30)
    [answer] = answers_of(engine, FREE)
    assert (len(answer.tokens), answer.reason) == (30, "length")
    pair = answers_of(engine, replace(FREE, n=2, temperature=1.0))
    assert [len(answer.tokens) for answer in pair] == [15, 15]


def test_more_tokens_than_the_cap_are_refused_with_both_numbers() -> None:
    engine = make_engine(max_request_tokens=30)
    assert len(answers_of(engine, replace(FREE, max_tokens=30))[0].tokens) == 30
    with pytest.raises(UserError, match="1 x 31 tokens.* 30 at most"):
        engine.add([1], replace(FREE, max_tokens=31))
    with pytest.raises(UserError, match="2 x 16 tokens.* 30 at most") as caught:
        engine.add([1], replace(FREE, max_tokens=16, n=2))
    assert "at most 15" in caught.value.hint
    assert not engine.has_work


def test_the_cap_of_tokens_counts_what_an_infill_opens() -> None:
    """max_tokens says nothing there."""
    engine = make_engine(FULL_TRAITS, max_request_tokens=8)
    params = SamplingParams(infill=[(2, 9)], temperature=0.0, seed=1)
    key = engine.add([1] * 30, params)
    assert len(drain(engine)[key].tokens) == 28
    with pytest.raises(UserError, match="1 x 9 tokens.* 8 at most") as caught:
        engine.add([1] * 30, replace(params, infill=[(2, 9), (10, 12)], max_tokens=4))
    assert caught.value.hint == "an infill of at most 8"


@BOTH
def test_the_cap_of_kv_holds_to_the_slot(traits: Traits) -> None:
    engine = make_engine(traits, max_request_kv=64)
    key = engine.add([1] * 10, FREE)
    answers: dict[int, Answer] = {}
    most = 0
    while engine.has_work:
        step(engine, answers)
        most = max(most, *(window.end for _, window in runner_of(engine).batches[-1]))
    assert most in (63, 64)  # the last token of a causal request is never fed
    assert (len(answers[key].tokens), answers[key].reason) == (54, "length")


def test_the_cap_of_kv_counts_every_choice() -> None:
    engine = make_engine(max_request_kv=64)
    pair = answers_of(engine, replace(FREE, n=2, temperature=1.0))
    assert [len(answer.tokens) for answer in pair] == [22, 22]


def test_a_cap_of_kv_that_blocks_do_not_divide_is_not_exceeded() -> None:
    engine = make_engine(BLOCK_TRAITS, max_request_kv=61)
    [answer] = answers_of(engine, FREE)
    assert 10 + len(answer.tokens) <= 56


@BOTH
@pytest.mark.parametrize(
    "params", [replace(LONG, max_tokens=100), replace(FREE, n=10)], ids=["tokens", "choices"]
)
def test_more_kv_than_the_cap_is_refused(traits: Traits, params: SamplingParams) -> None:
    engine = make_engine(traits, max_request_kv=64)
    with pytest.raises(ContextLengthError, match="slots .* 64 in all"):
        engine.add([1] * 10, params)
    with pytest.raises(ContextLengthError):
        engine.add([1] * 64, FREE)
    assert not engine.has_work


def expire(engine: Engine, key: int) -> None:
    """Let a request's time be up, without waiting for it."""
    engine._deadlines[key] = time.perf_counter()


@BOTH
@pytest.mark.parametrize("steps", [0, 1, 5])
def test_a_deadline_ends_a_request_in_the_next_step_with_what_it_has(
    traits: Traits, steps: int
) -> None:
    engine = make_engine(traits)
    late = engine.add([1] * 10, LONG, deadline=1000)
    other = engine.add([1] * 10, replace(LONG, max_tokens=40))
    answers: dict[int, Answer] = {}
    for _ in range(steps):
        step(engine, answers)
    had = answers[late].tokens if late in answers else []
    expire(engine, late)
    step(engine, answers)
    assert answers[late].reason == "deadline"
    assert answers[late].metrics is not None
    has = answers[late].tokens
    assert has[: len(had)] == had
    drain(engine, answers)
    assert all(late not in dict(batch) for batch in runner_of(engine).batches[steps + 1 :])
    alone = make_engine(traits)
    again = alone.add([1] * 10, replace(LONG, max_tokens=40))
    assert answers[other].tokens == drain(alone)[again].tokens
    assert has == answers[other].tokens[: len(has)]
    assert not engine._deadlines


def test_the_deadline_of_a_waiting_request_counts_too() -> None:
    engine = make_engine(max_num_seqs=1)
    engine.add([1], LONG)
    waiting = engine.add([1], LONG, deadline=1000)
    answers: dict[int, Answer] = {}
    step(engine, answers)
    expire(engine, waiting)
    step(engine, answers)
    assert answers[waiting].reason == "deadline"


def test_a_step_that_fails_loses_no_request_whose_time_was_up() -> None:
    engine = make_engine()
    late = engine.add([1], LONG, deadline=1000)
    engine.step()
    expire(engine, late)
    runner_of(engine).error = MemoryError("no more")
    with pytest.raises(MemoryError, match="no more"):
        engine.step()
    assert [event.request_id for event in engine.end_all(FinishReason.ERROR)] == [late]


def test_every_choice_has_the_deadline() -> None:
    engine = make_engine()
    first = engine.add([1] * 10, replace(LONG, n=3, temperature=1.0), deadline=1e-9)
    answers = drain(engine)
    assert [answers[first + i].reason for i in range(3)] == ["deadline"] * 3


@pytest.mark.parametrize(("cap", "asked", "given"), [(50, None, 50), (50, 9, 9), (5, 9, 5)])
def test_the_cap_of_time_is_a_deadline(cap: float, asked: float | None, given: float) -> None:
    engine = make_engine(max_request_seconds=cap)
    before = time.perf_counter()
    [request] = engine.prepare([1], FREE, deadline=asked)
    assert request.deadline is not None
    assert before + given <= request.deadline <= time.perf_counter() + given


def test_a_forked_request_keeps_tenant_and_deadline() -> None:
    engine = make_engine()
    parent = engine.add([1] * 10, LONG, deadline=1000, tenant="a", priority=3)
    engine.step()
    child = engine._requests[engine.fork(parent, 1)]
    assert (child.tenant, child.priority) == ("a", 3)
    expire(engine, child.seq.request_id)
    ended = [event for event in engine.step() if event.finish_reason]
    assert [(e.request_id, e.finish_reason) for e in ended] == [(child.seq.request_id, "deadline")]


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"deadline": 0}, "deadline=0 is out of range"),
        ({"deadline": -1.0}, "deadline=-1.0"),
        ({"deadline": float("nan")}, "deadline=nan"),
        ({"deadline": float("inf")}, "deadline=inf"),
        ({"deadline": "5"}, "deadline='5'"),
        ({"deadline": True}, "deadline=True"),
        ({"tenant": None}, "tenant=None"),
        ({"tenant": 5}, "tenant=5"),
        ({"tenant": "x" * 257}, "tenant='xxx"),
    ],
)
def test_what_is_no_tenant_and_no_deadline_is_refused(
    choices: dict[str, Any], message: str
) -> None:
    engine = make_engine()
    with pytest.raises(UserError, match=message):
        engine.add([1], FREE, **choices)
    assert not engine.has_work


def test_deadlines_pass_through_the_worker_in_real_time() -> None:
    worker = Worker(make_engine(num_pages=200))
    try:
        with worker.stream([1], LONG, deadline=0.05, tenant="a") as events:
            last = list(events)[-1]
    finally:
        worker.shutdown(timeout=30)
    assert last.finish_reason == "deadline"
    assert last.metrics is not None
    assert last.metrics.finished_time is not None
    assert last.metrics.finished_time - last.metrics.arrival_time >= 0.049  # from a moment before
