"""`plait serve` as a process: told to end while it works."""

from __future__ import annotations

import http.client
import json
import signal

from tests.server.live import MODEL, LiveServer
from tests.server.running import until


def stream(server: LiveServer, tokens: int) -> http.client.HTTPResponse:
    """A stream whose first bytes have come."""
    body = {"model": MODEL, "prompt": "Once", "max_tokens": tokens, "ignore_eos": True}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request(
        "POST",
        "/v1/completions",
        json.dumps({**body, "stream": True}),
        {"Content-Type": "application/json"},
    )
    answer = connection.getresponse()
    assert answer.status == 200
    assert answer.readline().startswith(b"data: {")
    return answer


def test_on_sigterm_running_streams_end_and_new_requests_do_not_begin() -> None:
    server = LiveServer("--ctx", "2048")
    try:
        running = stream(server, 60)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: server.ask("GET", "/health")[0] == 503)
        status, answer = server.complete()
        assert status == 503
        assert json.loads(answer)["error"]["code"] == "draining"
        assert running.read().endswith(b"data: [DONE]\n\n")
        assert server.process.wait(30) == 0
    finally:
        server.process.kill()
        server.process.wait()
    assert "curl http://127.0.0.1" in server.output()
    server.log.close()


def test_what_outlasts_the_grace_time_is_cut_off() -> None:
    server = LiveServer("--ctx", "2048", "--grace-seconds", "0.2", "--log-format", "json")
    try:
        running = stream(server, 1900)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
        assert b"[DONE]" not in running.read()
    except http.client.IncompleteRead:
        pass
    finally:
        server.process.kill()
        server.process.wait()
    lines = [line for line in server.output().splitlines() if line.startswith("{")]
    paths = {json.loads(line).get("path") for line in lines}
    assert "/v1/completions" in paths
    server.log.close()
