"""The worker: threads, asyncio, failures, shutdown. Nobody who waits is left waiting."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from plait.core.errors import UserError
from plait.core.params import SamplingParams
from plait.core.sequence import Event
from plait.core.window import FinishReason
from plait.engine.engine import Engine
from plait.engine.worker import TIDY_EVERY, Worker
from tests.fakes import Answer, collect, drain, make_engine, runner_of

PARAMS = SamplingParams(temperature=0.0, max_tokens=20, ignore_eos=True)
LONG = replace(PARAMS, max_tokens=3000)


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker(make_engine(num_pages=200))
    yield made
    made.shutdown(timeout=30)
    assert not made._thread.is_alive()
    pool = made.engine.scheduler.cache.pool
    assert pool.num_free == pool.num_pages


def expected(prompt: list[int], params: SamplingParams = PARAMS) -> list[int]:
    engine = make_engine()
    key = engine.add(prompt, params)
    return drain(engine)[key].tokens


def read(events: Iterator[Event]) -> dict[int, Answer]:
    answers: dict[int, Answer] = {}
    collect(answers, list(events))
    return answers


def test_a_stream_ends_with_the_request(worker: Worker) -> None:
    stream = worker.stream([1, 2, 3], PARAMS)
    answers = read(stream)
    assert answers[stream.ids[0]].tokens == expected([1, 2, 3])
    assert answers[stream.ids[0]].reason == "length"
    assert list(stream) == []


def test_memory_goes_back_when_there_is_leisure(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most once in a while."""
    calls: list[bool] = []
    trimmed = threading.Event()

    def trim() -> None:
        calls.append(worker.engine.has_work)
        trimmed.set()

    monkeypatch.setattr("plait.engine.worker.trim_heap", trim)
    read(worker.stream([1, 2, 3], PARAMS))
    assert not calls
    worker._tidied -= TIDY_EVERY
    read(worker.stream([1, 2, 3], PARAMS))
    assert trimmed.wait(30)
    read(worker.stream([1, 2, 3], PARAMS))
    assert calls == [False]


def test_a_stream_carries_every_choice(worker: Worker) -> None:
    stream = worker.stream([1, 2, 3], replace(PARAMS, n=3, temperature=1.0, seed=4))
    answers = read(stream)
    assert set(answers) == set(stream.ids)
    assert len({tuple(answer.tokens) for answer in answers.values()}) == 3


def test_many_threads_get_their_own_answers(worker: Worker) -> None:
    answers: dict[int, list[int]] = {}

    def ask(i: int) -> None:
        [answer] = read(worker.stream([i + 1] * 5, PARAMS)).values()
        answers[i] = answer.tokens

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == {i: expected([i + 1] * 5) for i in range(12)}
    assert worker.engine.metrics.num_steps < 12 * 20  # they shared batches


def test_asyncio_clients_share_the_engine(worker: Worker) -> None:
    async def ask(i: int) -> list[int]:
        tokens: list[int] = []
        async with worker.stream_async([i + 1] * 5, PARAMS) as events:
            async for event in events:
                tokens += event.token_ids
        return tokens

    async def main() -> list[list[int]]:
        return await asyncio.gather(*(ask(i) for i in range(8)))

    assert asyncio.run(main()) == [expected([i + 1] * 5) for i in range(8)]


def test_leaving_a_stream_cancels_its_request(worker: Worker) -> None:
    with worker.stream([1], LONG) as events:
        next(events)
    wait_until(worker, lambda engine: not engine.has_work)
    assert worker.call(lambda engine: engine.metrics.finished["cancelled"]).result(30) == 1


def test_leaving_an_async_stream_cancels_its_request(worker: Worker) -> None:
    async def main() -> None:
        async with worker.stream_async([1], LONG) as events:
            async for _ in events:
                break

    asyncio.run(main())
    wait_until(worker, lambda engine: not engine.has_work)


def wait_until(worker: Worker, condition: Callable[[Engine], bool]) -> None:
    for _ in range(10_000):
        if worker.call(condition).result(30):
            return
    pytest.fail("it never came to that")


def test_cancelling_ends_the_stream_with_that_reason(worker: Worker) -> None:
    stream = worker.stream([1], LONG)
    next(stream)
    worker.cancel(stream.ids[0])
    last = list(stream)[-1]
    assert last.finish_reason == "cancelled"
    worker.cancel(stream.ids[0])
    worker.cancel(99_999)


def test_finish_ends_the_stream_with_the_callers_reason(worker: Worker) -> None:
    stream = worker.stream([1], LONG)
    next(stream)
    worker.finish(stream.ids[0], FinishReason.STOP)
    assert list(stream)[-1].finish_reason == "stop"


def test_what_is_refused_is_refused_at_once_in_the_callers_thread(worker: Worker) -> None:
    with pytest.raises(UserError, match="empty"):
        worker.stream([], PARAMS)
    with pytest.raises(UserError, match="no decoding called 'smaple'"):
        worker.stream([1], PARAMS, decoder="smaple")
    assert read(worker.stream([1], PARAMS))


def test_a_step_without_memory_ends_all_requests_and_the_worker_goes_on(worker: Worker) -> None:
    streams = [worker.stream([i + 1], LONG) for i in range(3)]
    for stream in streams:
        next(stream)
    worker.call(lambda engine: setattr(runner_of(engine), "error", MemoryError("no more"))).result(
        30
    )
    for stream in streams:
        last = list(stream)[-1]
        assert last.finish_reason == "error"
        assert last.error == "the engine failed: MemoryError: no more"
    [answer] = read(worker.stream([1, 2, 3], PARAMS)).values()
    assert answer.tokens == expected([1, 2, 3])


def test_a_listener_that_raises_costs_its_own_request_only(worker: Worker) -> None:
    def listener(event: Event) -> None:
        raise ValueError("no")

    worker.submit([1], LONG, listener)
    [answer] = read(worker.stream([1, 2, 3], PARAMS)).values()
    assert answer.tokens == expected([1, 2, 3])
    wait_until(worker, lambda engine: not engine.has_work)


def test_a_call_brings_back_a_value_or_an_error(worker: Worker) -> None:
    assert worker.call(lambda engine: engine.has_work).result(30) is False
    with pytest.raises(ZeroDivisionError):
        worker.call(lambda engine: 1 // 0).result(30)


def test_shutdown_cancels_what_runs() -> None:
    worker = Worker(make_engine())
    stream = worker.stream([1], replace(LONG, n=2, max_tokens=1000))
    next(stream)
    worker.shutdown(timeout=30)
    assert [event.finish_reason for event in stream][-1] == "cancelled"
    with pytest.raises(RuntimeError, match="shut down"):
        worker.stream([1], PARAMS)
    with pytest.raises(RuntimeError, match="shut down"):
        worker.call(lambda engine: None)
    worker.cancel(0)
    worker.shutdown(timeout=30)


def test_shutdown_may_wait_for_what_runs() -> None:
    worker = Worker(make_engine())
    stream = worker.stream([1, 2, 3], PARAMS)
    worker.shutdown(drain=True, timeout=60)
    assert read(stream)[stream.ids[0]].tokens == expected([1, 2, 3])


def test_an_impatient_shutdown_overrides_a_patient_one() -> None:
    worker = Worker(make_engine())
    stream = worker.stream([1], replace(LONG, max_tokens=1500))
    next(stream)
    worker.shutdown(drain=True, timeout=0.01)
    worker.shutdown(timeout=60)
    assert list(stream)[-1].finish_reason in ("cancelled", "length")
    assert not worker._thread.is_alive()


def test_an_engine_that_dies_leaves_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(make_engine())
    stream = worker.stream([1], LONG)
    next(stream)

    def broken(*_: Any) -> list[Event]:
        raise AssertionError("the books do not balance")

    monkeypatch.setattr(worker.engine, "end_all", broken)
    worker.call(lambda engine: setattr(runner_of(engine), "error", MemoryError("no more")))
    last = list(stream)[-1]
    assert last.finish_reason == "error"
    assert "books" in (last.error or "")
    worker._thread.join(30)
    with pytest.raises(RuntimeError, match="shut down"):
        worker.stream([1], PARAMS)
