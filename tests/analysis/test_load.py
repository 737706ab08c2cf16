"""The load generator: what it sends and when, what it counts, and that no server can hang or fool it."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from plait.analysis import load_client
from plait.analysis.load import Generator, Sample, first_model, percentiles, summary
from plait.analysis.load_client import Address
from plait.analysis.load_plan import arrivals, plan
from plait.analysis.workload import Load
from plait.core.errors import UserError

Behave = Callable[[dict[str, Any]], list[bytes]]
"""Body of a request -> the whole answer, in the pieces in which it is sent."""

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def text(word: str) -> dict[str, Any]:
    return {"choices": [{"text": word}]}


USAGE = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}
ANSWER = [event(text("a")), event(text("b c")), event(USAGE), b"data: [DONE]\n\n"]


class Server:
    """Answers every request on a loopback port as `behave` says; keeps their bodies."""

    def __init__(self, behave: Behave) -> None:
        self.behave = behave
        self.bodies: list[dict[str, Any]] = []
        self.heads: list[bytes] = []
        self.open = self.most_open = 0
        self.metrics = b""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        if head.startswith(b"GET /metrics"):
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + self.metrics)
            writer.close()
            return
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        self.heads.append(head)
        self.bodies.append(json.loads(await reader.readexactly(length) or b"{}"))
        for piece in self.behave(self.bodies[-1]):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        self.open -= 1
        writer.close()

    async def serve(self, started: Future[int], stop: asyncio.Event) -> None:
        async with await asyncio.start_server(self.answer, "127.0.0.1", 0) as server:
            started.set_result(server.sockets[0].getsockname()[1])
            await stop.wait()


@contextmanager
def serving(behave: Behave) -> Iterator[tuple[Server, Address]]:
    server, started, loop = Server(behave), Future[int](), asyncio.new_event_loop()
    stop = asyncio.Event()
    thread = threading.Thread(
        target=lambda: loop.run_until_complete(server.serve(started, stop)), daemon=True
    )
    thread.start()
    try:
        yield server, Address(f"http://127.0.0.1:{started.result(10)}/v1", "secret")
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()
    assert not thread.is_alive()


def run(address: Address, patience: float = 10.0, **fields: Any) -> list[Sample]:
    load = Load(**{"requests": 3, "concurrency": 2, **fields})
    return Generator(address, "m", load, patience).run()


@pytest.mark.parametrize(
    "whole",
    [
        [CHUNKED, *map(chunk, ANSWER), b"0\r\n\r\n"],
        [CHUNKED, *(chunk(bytes([byte])) for byte in b"".join(ANSWER)), b"0\r\n\r\n"],
        [HEAD + b"Content-Length: %d\r\n\r\n" % len(b"".join(ANSWER)), *ANSWER],
        [HEAD + b"\r\n", *ANSWER],
    ],
    ids=["chunked", "byte by byte", "length", "until the end"],
)
def test_an_answer_is_read_however_it_is_framed(whole: list[bytes]) -> None:
    with serving(lambda body: whole) as (server, address):
        samples = run(address)
    assert [sample.error for sample in samples] == [""] * 3
    assert [(s.prompt_tokens, s.tokens, len(s.times)) for s in samples] == [(7, 3, 2)] * 3
    assert all(b"Bearer secret" in head for head in server.heads)
    assert all(body["stream_options"] == {"include_usage": True} for body in server.bodies)


def test_without_a_count_the_pieces_are_the_tokens() -> None:
    with serving(lambda body: [HEAD + b"\r\n", *ANSWER[:2], ANSWER[3]]) as (_, address):
        assert [sample.tokens for sample in run(address)] == [2, 2, 2]


@pytest.mark.parametrize(
    ("whole", "kind"),
    [
        ([b"HTTP/1.1 429 Too Many\r\nContent-Length: 4\r\n\r\nfull"], "429"),
        ([HEAD + b"\r\n", *ANSWER[:2]], "broken"),
        ([CHUNKED, chunk(ANSWER[0])], "broken"),
        ([CHUNKED, b"zz\r\n"], "broken"),
        ([CHUNKED, b"ffffffffffff\r\n"], "broken"),
        ([HEAD + b"Content-Length: -4\r\n\r\n"], "broken"),
        ([b"SSH-2.0 hello\r\n\r\n"], "broken"),
        ([b""], "broken"),
        ([HEAD + b"\r\n", b"data: {]\n\n"], "broken"),
        ([HEAD + b"\r\n", b"data: [1]\n\n"], "broken"),
        ([HEAD + b"\r\n", event({"choices": [{}]})], "broken"),
        ([HEAD + b"\r\n", event(text("a")), event({"error": {"message": "died"}})], "broken"),
    ],
)
def test_an_answer_that_is_none_is_an_error(whole: list[bytes], kind: str) -> None:
    with serving(lambda body: whole) as (_, address):
        samples = run(address)
    assert [sample.error for sample in samples] == [kind] * 3


def test_an_answer_without_an_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_client, "MOST_BYTES", 10_000)
    with serving(lambda body: [HEAD + b"\r\n", *[b": more\n\n" * 100] * 20]) as (_, address):
        samples = run(address, requests=1)
    assert (samples[0].error, samples[0].said) == ("broken", "more than 10000 bytes")


def test_a_server_that_says_nothing_costs_no_more_than_the_patience() -> None:
    with socket.socket() as listener:  # nobody ever accepts
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = Address(f"127.0.0.1:{listener.getsockname()[1]}")
        assert [sample.error for sample in run(address, patience=0.1)] == ["timeout"] * 3


def test_nobody_there_is_refused_and_said() -> None:
    with serving(lambda body: []) as (_, address):
        pass
    assert [sample.error for sample in run(address)] == ["refused"] * 3
    with pytest.raises(UserError, match="no server at 127.0.0.1"):
        first_model(address, 1.0)


def test_the_first_model_is_asked_for() -> None:
    listed = json.dumps({"data": [{"id": "one"}, {"id": "two"}]}).encode()
    with serving(lambda body: [HEAD + b"\r\n", listed]) as (_, address):
        assert first_model(address, 10.0) == "one"


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"data": []}', b"<html>"])
def test_a_server_without_models_is_said_to_have_none(body: bytes) -> None:
    with (
        serving(lambda _: [HEAD + b"\r\n", body]) as (_, address),
        pytest.raises(UserError, match="lists no model"),
    ):
        first_model(address, 10.0)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org",
        "https://127.0.0.1",
        "http://192.168.1.2:80",
        "http://0.0.0.0",
        "ftp://x",
    ],
)
def test_load_goes_to_this_machine_alone(url: str) -> None:
    with pytest.raises(UserError, match="not a plain HTTP server on this machine"):
        Address(url)


@pytest.mark.parametrize("url", ["127.0.0.1:80", "localhost:1", "http://[::1]:8000/v1"])
def test_loopback_has_several_names(url: str) -> None:
    assert Address(url).base == ""


def test_a_port_that_is_none_is_said() -> None:
    with pytest.raises(UserError, match="Port"):
        Address("http://127.0.0.1:99999")


def test_never_more_than_the_concurrency_is_under_way() -> None:
    with serving(lambda body: [HEAD + b"\r\n", *ANSWER]) as (server, address):
        assert len(run(address, requests=40, concurrency=4)) == 40
    assert server.most_open <= 4


def test_an_open_loop_sends_every_request() -> None:
    with serving(lambda body: [HEAD + b"\r\n", *ANSWER]) as (server, address):
        samples = run(address, requests=20, concurrency=0, rate=400.0)
    assert len(samples) == 20
    assert all(sample.began >= sample.due and not sample.error for sample in samples)
    found = summary(samples, Load(rate=400.0), (1.0, 0.1))
    assert found["arrivals"].keys() == {"rate", "variation", "latest_start"}


def test_no_request_begins_after_the_seconds() -> None:
    asks = plan(Load(requests=1000, rate=10.0, seconds=5.0))
    assert asks[-1].at <= 5.0
    assert 20 < len(asks) < 100
    with serving(lambda body: [HEAD + b"\r\n", *ANSWER]) as (_, address):
        assert len(run(address, requests=1000, concurrency=1, seconds=0.0)) <= 1


@pytest.mark.parametrize("variation", [0.0, 0.5, 1.0, 3.0])
def test_arrivals_have_the_rate_and_the_variation_that_were_asked_for(variation: float) -> None:
    load = Load(requests=20_000, rate=8.0, variation=variation)
    gaps = np.diff(arrivals(load, np.random.default_rng(5)), prepend=0.0)
    assert gaps.mean() == pytest.approx(1 / 8, rel=0.08)
    assert gaps.std() / gaps.mean() == pytest.approx(variation, rel=0.08)


def test_the_same_seed_is_the_same_load() -> None:
    load = Load(requests=20, rate=5.0, spread=0.5, prefix_words=3)
    assert plan(load) == plan(load)
    assert plan(load) != plan(Load(requests=20, rate=5.0, spread=0.5, prefix_words=3, seed=1))


def test_lengths_and_the_common_prefix() -> None:
    asks = plan(
        Load(requests=400, concurrency=1, prompt_words=20, tokens=10, spread=0.5, prefix_words=6)
    )
    words = [ask.prompts[0].split() for ask in asks]
    assert {tuple(one[:6]) for one in words} == {tuple(words[0][:6])}
    assert {len(one) - 6 for one in words} == set(range(10, 31))
    assert {ask.tokens for ask in asks} == set(range(5, 16))
    assert len({ask.prompts for ask in asks}) == 400


def test_a_turn_is_sent_with_all_that_was_said_before() -> None:
    whole = [HEAD + b"\r\n", event(text(" yes")), b"data: [DONE]\n\n"]
    with serving(lambda body: whole) as (server, address):
        samples = run(address, requests=2, concurrency=1, turns=3, prompt_words=2)
    prompts = [body["prompt"] for body in server.bodies]
    assert [sample.turn for sample in samples] == [0, 1, 2] * 2
    for first, second in zip(prompts, prompts[1:], strict=False):
        assert second.startswith(f"{first} yes ") or len(second.split()) == 2
    assert [len(prompt.split()) for prompt in prompts] == [2, 5, 8] * 2


def test_a_conversation_ends_with_its_first_error() -> None:
    with serving(lambda body: [b"HTTP/1.1 500 No\r\n\r\n"]) as (_, address):
        assert len(run(address, requests=2, turns=3)) == 2


@pytest.mark.parametrize(
    ("metrics", "shares"),
    [
        (b"# HELP plait_kv_cache_usage Share\nplait_kv_cache_usage 0.25\n", {0.25}),
        (b'vllm:kv_cache_usage_perc{engine="0"} 0.5\n', {0.5}),
        (b"something_else 3\n", set()),
        (b"plait_kv_cache_usage much\n", set()),
    ],
)
def test_the_cache_is_watched_where_a_server_says_how_full_it_is(
    metrics: bytes, shares: set[float]
) -> None:
    with serving(lambda body: [HEAD + b"\r\n", *ANSWER]) as (server, address):
        server.metrics = metrics
        load = Load(requests=40, rate=100.0, variation=0.0)
        generator = Generator(address, "m", load, 10.0)
        generator.run()
    assert {share for _, share in generator.occupancy.points} == shares


@pytest.mark.parametrize(
    "fields",
    [
        {"rate": -1.0},
        {"rate": float("nan")},
        {"rate": 1.0, "tokens": 0},
        {"rate": 1.0, "concurrency": 1},
        {"rate": 1.0, "requests": 0},
        {"rate": 1.0, "requests": 10**9},
        {"rate": 1.0, "spread": 1.0},
        {"rate": 1.0, "turns": 0},
        {"rate": 1.0, "requests": 1000, "turns": 1000},
    ],
)
def test_a_load_that_cannot_be_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        Load(**fields)


def test_a_load_without_a_request_is_refused() -> None:
    with pytest.raises(UserError, match="how much load"):
        plan(Load())
    with pytest.raises(UserError, match="no request is due within 1 s at 0.001 per second"):
        plan(Load(rate=0.001, seconds=1.0))


def test_what_a_summary_counts() -> None:
    samples = [
        Sample(0.0, 0.1, times=[1.0, 2.0, 4.0], ended=4.5, prompt_tokens=5, tokens=4),
        Sample(1.0, 1.0, times=[2.0, 5.0], ended=5.0, prompt_tokens=6, tokens=3),
        Sample(2.0, 2.0, times=[8.0], ended=10.0, prompt_tokens=7, tokens=1),
        Sample(3.0, 3.0, ended=3.5, error="429", said="full"),
        Sample(3.0, 3.0, times=[3.5], ended=4.0, error="429", said="still full"),
    ]
    found = summary(samples, Load(concurrency=2), goal=(2.0, 1.25))
    assert (found["requests"], found["answered"], found["seconds"]) == (5, 3, 10.0)
    assert found["errors"] == {"429": {"count": 2, "first": "full"}}
    assert (found["tokens"], found["tokens_per_second"]) == (8, 0.8)
    assert (found["prompt_tokens"], found["requests_per_second"]) == (18, 0.3)
    assert found["time_to_first_token"]["p50"] == 1.0
    assert found["time_to_first_token"]["max"] == 6.0
    assert found["time_per_output_token"]["max"] == 1.5
    assert found["time_per_output_token"]["p50"] == 1.25
    assert found["time_between_pieces"]["p50"] == 2.0
    assert found["latency"]["max"] == 8.0
    assert found["goodput"] == {"goal": [2.0, 1.25], "requests_per_second": 0.1}
    assert found["arrivals"] == {}
    assert found["stragglers"] == 0
    slow = [Sample(0.0, 0.0, times=[1.0], ended=ended) for ended in (1.0, 1.0, 1.0, 3.5)]
    assert summary(slow, Load(concurrency=2), (2.0, 1.0))["stragglers"] == 1


def test_a_load_that_all_failed_has_no_times() -> None:
    found = summary([Sample(0.0, 0.0, error="refused")], Load(concurrency=1), (1.0, 0.1))
    assert found["time_to_first_token"] == found["time_between_pieces"] == {}
    assert found["tokens_per_second"] == 0.0


def test_percentiles_are_those_of_the_values() -> None:
    found = percentiles([float(value) for value in range(101)])
    assert found == {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "max": 100.0}
