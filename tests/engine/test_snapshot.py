"""What monitoring sees."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from plait.core.params import SamplingParams
from plait.engine import snapshot
from plait.engine.metrics import BOUNDS, Histogram
from plait.engine.worker import Worker
from tests.fakes import Answer, drain, make_engine, step

PARAMS = SamplingParams(temperature=0.0, max_tokens=20, ignore_eos=True)


def test_every_request_is_there_with_its_state_and_counts() -> None:
    engine = make_engine(max_num_seqs=2, max_num_batched_tokens=64)
    first = engine.add([1] * 10, PARAMS, tenant="a", priority=1)
    second = engine.add([1] * 100, PARAMS, tenant="b", priority=1, deadline=1000)
    third = engine.add([1] * 7, PARAMS, tenant="a", priority=2)
    answers: dict[int, Answer] = {}
    step(engine, answers)
    state = {request.request_id: request for request in snapshot.take(engine).requests}
    assert list(state) == [first, second, third]
    assert [(r.tenant, r.priority, r.state) for r in state.values()] == [
        ("a", 1, "running"),
        ("b", 1, "running"),
        ("a", 2, "queued"),
    ]
    counts = [(r.prompt_tokens, r.computed, r.generated) for r in state.values()]
    assert counts == [(10, 10, 1), (100, 54, 0), (7, 0, 0)]
    assert [r.deadline is not None for r in state.values()] == [False, True, False]
    engine.preempt(first)
    [preempted, *_] = snapshot.take(engine).requests
    assert (preempted.state, preempted.computed, preempted.generated) == ("preempted", 0, 1)
    drain(engine, answers)
    assert snapshot.take(engine).requests == ()


def test_totals_and_times_are_those_of_the_requests() -> None:
    engine = make_engine(max_num_seqs=2)
    ids = [engine.add([i + 1] * 10, PARAMS) for i in range(4)]
    one = engine.add([1], replace(PARAMS, max_tokens=1))
    before = snapshot.take(engine)
    assert (before.num_running, before.num_waiting) == (0, 5)
    answers: dict[int, Answer] = {}
    step(engine, answers)
    during = snapshot.take(engine)
    assert (during.num_running, during.num_waiting) == (2, 3)
    assert 0 < during.occupancy < 1
    assert sum(during.time_to_first_token.counts) == 2
    assert sum(during.time_per_token.counts) == 0
    drain(engine, answers)
    after = snapshot.take(engine)
    assert (after.num_running, after.num_waiting, after.occupancy) == (0, 0, 0)
    assert (after.num_tokens, after.finished) == (81, {"length": 5})
    assert sum(after.time_to_first_token.counts) == 5
    assert sum(after.time_per_token.counts) == 4  # of one token there is no time between tokens
    each = [answers[key].metrics for key in [*ids, one]]
    waits = [m.first_token_time - m.arrival_time for m in each if m and m.first_token_time]
    assert after.time_to_first_token.sum == pytest.approx(sum(waits))
    assert sum(before.time_to_first_token.counts) == 0  # a snapshot does not change


def test_a_request_that_is_ended_from_outside_counts_too() -> None:
    engine = make_engine()
    key = engine.add([1], PARAMS)
    for _ in range(5):
        engine.step()
    engine.cancel(key)
    taken = snapshot.take(engine)
    assert sum(taken.time_to_first_token.counts) == sum(taken.time_per_token.counts) == 1
    assert taken.finished == {"cancelled": 1}


def test_a_histogram_counts_every_observation_in_its_bucket() -> None:
    histogram = Histogram()
    for seconds in (0.0005, 0.001, 0.0011, 99.0, 1e6):
        histogram.observe(seconds)
    assert len(histogram.counts) == len(BOUNDS) + 1
    assert (histogram.counts[0], histogram.counts[1]) == (2, 1)
    assert histogram.counts[-2:] == [1, 1]
    assert histogram.sum == pytest.approx(1e6 + 99.0026)


def test_a_snapshot_may_be_taken_while_the_engine_works() -> None:
    worker = Worker(make_engine(num_pages=200, max_num_seqs=4))
    stop = threading.Event()
    errors: list[Exception] = []

    def watch() -> None:
        while not stop.is_set():
            try:
                worker.snapshot()
            except Exception as error:
                errors.append(error)
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    streams = [worker.stream([i % 50 + 1], PARAMS, tenant=str(i % 7)) for i in range(60)]
    for stream in streams:
        assert list(stream)[-1].finish_reason == "length"
    stop.set()
    watcher.join(30)
    worker.shutdown(timeout=30)
    assert errors == []
