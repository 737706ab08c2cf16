"""Clients that mean no good, or do no better: the server refuses in words and goes on answering."""

from __future__ import annotations

import errno
import json
import random
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from tests.server.live import LONGEST, MODEL, LiveServer, Watch

CHAT: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Hi"}],
    "max_tokens": 1,
    "temperature": 0,
}
ODD: list[Any] = [
    *(None, True, -1, 0, 1e308, 2**70, "", "x", "\ud800", "\0", [], {}, [[]], [None]),
    *(
        {"a": {"b": []}},
        [{}],
        [1, "a", None],
        "9" * 5000,
        {"role": "user"},
        [{"role": 3}],
        0.5,
        "NaN",
    ),
]
FIELDS = [
    *(
        "model",
        "messages",
        "max_tokens",
        "temperature",
        "top_p",
        "top_k",
        "n",
        "stop",
        "seed",
        "stream",
    ),
    *(
        "logprobs",
        "top_logprobs",
        "logit_bias",
        "presence_penalty",
        "stream_options",
        "user",
        "tools",
    ),
    *("response_format", "max_completion_tokens", "frequency_penalty", "prompt", "no_such_field"),
]
PATHS = ["/v1/chat/completions", "/v1/completions", "/tokenize", "/v1/embeddings", "/v1/responses"]


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    one = LiveServer("--max-num-seqs", "8", "--ctx", "2048")
    yield one
    code = one.close()
    assert code == 0, "it had died, or did not end when asked to"


def test_bodies_with_one_odd_field_are_answered_or_refused(server: LiveServer) -> None:
    chance = random.Random(4)
    cases = [(field, value) for field in FIELDS for value in ODD]
    with Watch(server):
        for field, value in chance.sample(cases, 150):
            body = json.dumps({**CHAT, field: value}).encode()
            status, answer = server.ask("POST", "/v1/chat/completions", body)
            assert status < 500, (field, value, answer)
            assert status == 200 or json.loads(answer)["error"]["message"], (field, value)


def test_bodies_that_are_no_json_are_refused(server: LiveServer) -> None:
    chance = random.Random(5)
    whole = json.dumps(CHAT).encode()
    bodies = [
        *(b"", b"null", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000, b'{"model": NaN}'),
        *(chance.randbytes(length) for length in (1, 10, 1000, 100_000)),
        *(whole[: chance.randrange(1, len(whole))] for _ in range(20)),
        b'{"max_tokens": ' + b"9" * 100_000 + b"}",
    ]
    with Watch(server):
        for body in bodies:
            for path in PATHS:
                status, answer = server.ask("POST", path, body)
                assert 400 <= status < 500, (path, body[:40], status, answer[:200])


@pytest.mark.parametrize(
    "request_",
    [
        b"\r\n\r\n",
        b"GARBAGE\r\n\r\n",
        b"GET\0/ HTTP/1.1\r\n\r\n",
        b"GET / HTXP/1.1\r\nHost: a\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 1_000_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nContent-Length: 5\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffff\r\nx",
    ],
    ids=lambda value: repr(value[:24]),
)
def test_what_is_no_http_is_no_harm(server: LiveServer, request_: bytes) -> None:
    with Watch(server), server.connect() as one, suppress(ConnectionError):
        one.sendall(request_)
        end_sending(one)
        answer = one.recv(1 << 16)
        assert not answer or answer.split(b" ")[1][:1] in (b"4", b"5")
        assert b"Traceback" not in answer
    assert server.complete()[0] == 200


def end_sending(one: socket.socket) -> None:
    """A server that has answered and closed leaves nothing to end."""
    try:
        one.shutdown(socket.SHUT_WR)
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            raise


def head(length: int, path: str = "/v1/completions") -> bytes:
    lines = ["Host: a", "Content-Type: application/json", f"Content-Length: {length}"]
    return "\r\n".join([f"POST {path} HTTP/1.1", *lines, "", ""]).encode()


def body(**fields: Any) -> bytes:
    return json.dumps({"model": MODEL, "prompt": "Hello", "max_tokens": 4, **fields}).encode()


def test_a_slow_sender_holds_up_nobody(server: LiveServer) -> None:
    content = body()
    with Watch(server), ExitStack() as stack:
        slow = [stack.enter_context(server.connect()) for _ in range(20)]
        for one in slow:
            one.sendall(head(len(content)))
        for place in range(len(content) - 1):
            for one in slow:
                one.sendall(content[place : place + 1])
            if place % 20 == 0:
                assert server.complete()[0] == 200
        for one in slow:
            one.sendall(content[-1:])
            assert one.recv(1 << 16).startswith(b"HTTP/1.1 200")


def test_a_client_that_does_not_read_holds_up_nobody(server: LiveServer) -> None:
    content = body(stream=True, max_tokens=1500, ignore_eos=True, logprobs=5)
    with Watch(server), ExitStack() as stack:
        for _ in range(4):
            one = stack.enter_context(socket.socket())
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.connect(("127.0.0.1", server.port))
            one.sendall(head(len(content)) + content)
        for _ in range(5):
            assert server.complete()[0] == 200


def test_a_half_closed_socket_gets_its_answer_or_an_end(server: LiveServer) -> None:
    content = body()
    with Watch(server):
        for sent in (head(len(content)) + content, head(len(content)) + content[:5], head(3)[:30]):
            with server.connect() as one, suppress(ConnectionResetError):
                one.sendall(sent)
                one.shutdown(socket.SHUT_WR)
                while one.recv(1 << 16):  # a timeout here is a client that was left waiting
                    pass
    assert server.complete()[0] == 200


def test_clients_that_leave_at_once_leave_nothing_behind(server: LiveServer) -> None:
    content = body(stream=True, max_tokens=1500, ignore_eos=True)
    with Watch(server):
        for _ in range(30):
            with server.connect() as one:
                one.sendall(head(len(content)) + content)
        assert server.complete()[0] == 200
        until = time.monotonic() + LONGEST
        while server.gauges()["plait_requests_running"] and time.monotonic() < until:
            time.sleep(0.1)
    assert server.gauges()["plait_requests_running"] == 0


@pytest.mark.parametrize("path", PATHS[:3])
def test_a_prompt_of_ten_megabytes_is_refused_in_words(server: LiveServer, path: str) -> None:
    text = "word " * 2_000_000
    fields = {"prompt": text, "messages": [{"role": "user", "content": text}], "content": text}
    with Watch(server):
        status, answer = server.ask("POST", path, json.dumps({"model": MODEL, **fields}).encode())
    assert status in (400, 413), answer[:300]
    assert json.loads(answer)["error"]["message"]


@pytest.mark.parametrize(
    "count", [200, pytest.param(1000, marks=pytest.mark.soak)], ids=["200", "1000"]
)
def test_idle_connections_keep_nobody_out(server: LiveServer, count: int) -> None:
    with Watch(server), ExitStack() as stack:
        try:
            for _ in range(count):
                stack.enter_context(server.connect())
        except OSError as error:
            pytest.skip(f"this machine lets a test have no more sockets: {error}")
        assert server.complete()[0] == 200
        assert server.ask("GET", "/health")[0] == 200
