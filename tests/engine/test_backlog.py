"""The backlog: what waits, how much of it there may be, and who gets in when it is full."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from plait.core.errors import BusyError
from plait.core.params import SamplingParams
from plait.engine.backlog import LONGEST_WAIT, Backlog
from plait.engine.limits import Limits
from plait.engine.worker import Worker
from plait.iteration.base import Request
from tests.fakes import make_engine

PARAMS = SamplingParams(temperature=0.0, max_tokens=5, ignore_eos=True)
ENGINE = make_engine()


def choices(tenant: str = "", prompt: int = 10, n: int = 1) -> list[Request]:
    return ENGINE.prepare([1] * prompt, replace(PARAMS, n=n), tenant=tenant)


def keys(requests: list[Request]) -> list[int]:
    return [request.seq.request_id for request in requests]


def test_what_enters_is_counted_until_it_starts_or_leaves() -> None:
    backlog = Backlog(Limits())
    triple, single = choices(n=3), choices(prompt=7)
    backlog.enter(triple)
    backlog.enter(single)
    assert (backlog.num_requests, backlog.num_tokens) == (4, 17)
    backlog.start([*keys(triple)[:1], 12345])
    assert (backlog.num_requests, backlog.num_tokens) == (3, 7)
    assert backlog.leave(keys(single)[0])
    assert not backlog.leave(keys(single)[0])
    backlog.start(keys(triple))
    assert (backlog.num_requests, backlog.num_tokens) == (0, 0)


def test_a_full_backlog_refuses_and_says_when_to_come_back() -> None:
    backlog = Backlog(Limits(max_queued_requests=3))
    for _ in range(3):
        backlog.enter(choices())
    with pytest.raises(BusyError, match="3 requests are waiting, and the queue holds 3") as caught:
        backlog.enter(choices())
    assert caught.value.http_status == 429
    assert caught.value.hint == "try again later"
    assert 1.0 <= caught.value.retry_after <= LONGEST_WAIT
    assert (backlog.num_requests, backlog.num_tokens) == (3, 30)


def test_all_choices_get_in_or_none() -> None:
    backlog = Backlog(Limits(max_queued_requests=3))
    backlog.enter(choices(n=2))
    with pytest.raises(BusyError):
        backlog.enter(choices(n=2))
    backlog.enter(choices())
    assert backlog.num_requests == 3


def test_prompt_tokens_are_limited_too() -> None:
    backlog = Backlog(Limits(max_queued_tokens=50))
    backlog.enter(choices(prompt=50))
    with pytest.raises(BusyError, match="50 prompt tokens"):
        backlog.enter(choices(prompt=1))


def test_what_is_larger_than_the_limit_gets_in_when_nothing_waits() -> None:
    backlog = Backlog(Limits(max_queued_tokens=50))
    big = choices(prompt=80)
    backlog.enter(big)
    backlog.start(keys(big))
    backlog.enter(choices())
    with pytest.raises(BusyError):
        backlog.enter(choices(prompt=80))


def test_who_fills_the_backlog_does_not_keep_the_others_out() -> None:
    backlog = Backlog(Limits(max_queued_requests=8))
    for _ in range(8):
        backlog.enter(choices("greedy"))
    for _ in range(4):
        backlog.enter(choices("modest"))
    for tenant in ("greedy", "modest"):
        with pytest.raises(BusyError):
            backlog.enter(choices(tenant))


def test_many_names_do_not_make_the_backlog_endless() -> None:
    backlog = Backlog(Limits(max_queued_requests=8))
    for name in range(200):
        for _ in range(8):
            try:
                backlog.enter(choices(f"tenant {name}"))
            except BusyError:
                break
    assert backlog.num_requests <= 8 * (1 + 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5 + 1 / 6 + 1 / 7 + 1 / 8)


def test_when_to_come_back_follows_from_how_fast_requests_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr("plait.engine.backlog.time.perf_counter", lambda: now[0])
    backlog = Backlog(Limits(max_queued_requests=4))
    for _ in range(6):
        started = choices()
        backlog.enter(started)
        backlog.start(keys(started))
        now[0] += 3.0
    for _ in range(4):
        backlog.enter(choices())
    with pytest.raises(BusyError) as caught:
        backlog.enter(choices())
    assert caught.value.retry_after == pytest.approx(12.0)
    now[0] += 10_000
    with pytest.raises(BusyError) as caught:
        backlog.enter(choices())
    assert caught.value.retry_after == LONGEST_WAIT


@pytest.fixture
def busy() -> Iterator[Worker]:
    """One request runs for long, and two may wait."""
    worker = Worker(make_engine(num_pages=200, max_num_seqs=1, max_queued_requests=2))
    next(worker.stream([1], replace(PARAMS, max_tokens=4000)))
    yield worker
    worker.shutdown(timeout=30)
    assert worker.snapshot().num_queued == 0


def test_submit_is_refused_in_the_callers_thread_and_nothing_is_lost(busy: Worker) -> None:
    waiting = [busy.stream([1, 2, i], PARAMS) for i in range(2)]
    with pytest.raises(BusyError):
        busy.stream([1], PARAMS)
    with pytest.raises(BusyError):
        busy.submit([1], PARAMS, lambda event: None)
    busy.cancel(waiting[0].ids[0])
    assert list(waiting[0])[-1].finish_reason == "cancelled"
    third = busy.stream([1], PARAMS)
    busy.cancel(0)
    for stream in (waiting[1], third):
        assert list(stream)[-1].finish_reason == "length"


def test_threads_never_overfill_it(busy: Worker) -> None:
    outcomes: list[Any] = []

    def ask() -> None:
        try:
            outcomes.append(busy.submit([1], PARAMS, lambda event: None))
        except BusyError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sum(isinstance(outcome, list) for outcome in outcomes) == 2


def test_what_is_refused_after_shutdown_does_not_stay_in_the_backlog() -> None:
    worker = Worker(make_engine())
    worker.shutdown(timeout=30)
    with pytest.raises(RuntimeError, match="shut down"):
        worker.stream([1], PARAMS)
    assert worker.snapshot().num_queued == 0
