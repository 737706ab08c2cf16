"""A fault of the engine in one request: over HTTP that request has an error, and the others never know."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator

import pytest

from tests.server.faulty import CRASH, FAULT, FAULTS, SLIP
from tests.server.live import LiveServer

OTHERS = ["Once", "The sea", "Paris is"]
WORDS = {FAULT: "a fault", CRASH: "a crash", SLIP: "a slip"}


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    one = LiveServer("--ctx", "1024", module="tests.server.faulty")
    yield one
    assert one.close() == 0


def text_of(answer: http.client.HTTPResponse) -> str:
    """What is left of a stream; it must be whole."""
    *events, end = answer.read().decode().split("data: ")[1:]
    assert end.startswith("[DONE]")
    return "".join(choice["text"] for event in events for choice in json.loads(event)["choices"])


def test_one_fails_and_the_others_finish_as_if_alone(server: LiveServer) -> None:
    alone = [text_of(server.stream(prompt=prompt, max_tokens=40, seed=1)) for prompt in OTHERS]
    assert len(set(alone)) == 3
    for seed in FAULTS:
        streams = [server.stream(prompt=prompt, max_tokens=40, seed=1) for prompt in OTHERS]
        status, answer = server.complete(seed=seed, max_tokens=20, ignore_eos=True)
        assert status == 500
        error = json.loads(answer)["error"]
        assert error["code"] == "engine_error"
        assert error["type"] == "server_error"
        assert WORDS[seed] in error["message"]
        assert [text_of(stream) for stream in streams] == alone
    assert "a forward of 4 requests failed" in server.output()


def test_a_stream_ends_with_the_error(server: LiveServer) -> None:
    rest = server.stream(seed=CRASH, max_tokens=20).read().decode()
    *_, last = [line for line in rest.splitlines() if line.startswith("data: ")]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "engine_error"
    assert server.complete()[0] == 200
    gauges = server.gauges()
    assert gauges["plait_requests_running"] == gauges["plait_kv_cache_usage"] == 0
