"""`plait serve` as a process: told to end while it works, killed, and started again."""

from __future__ import annotations

import http.client
import json
import signal
import threading
import time
from collections import Counter
from functools import partial

import pytest

from tests.server.live import LiveServer
from tests.server.running import until


def test_on_sigterm_running_streams_end_and_new_requests_do_not_begin() -> None:
    server = LiveServer("--ctx", "2048")
    try:
        running = server.stream(max_tokens=60)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: server.ask("GET", "/health")[0] == 503)
        status, answer = server.complete()
        assert status == 503
        assert json.loads(answer)["error"]["code"] == "draining"
        assert running.read().endswith(b"data: [DONE]\n\n")
        assert server.process.wait(30) == 0
    finally:
        server.kill()
    assert "curl http://127.0.0.1" in server.output()
    server.log.close()


def test_what_outlasts_the_grace_time_is_cut_off() -> None:
    server = LiveServer("--ctx", "2048", "--grace-seconds", "0.2", "--log-format", "json")
    try:
        running = server.stream(max_tokens=1900)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
        assert b"[DONE]" not in running.read()
    except http.client.IncompleteRead:
        pass
    finally:
        server.kill()
    lines = [line for line in server.output().splitlines() if line.startswith("{")]
    paths = {json.loads(line).get("path") for line in lines}
    assert "/v1/completions" in paths
    server.log.close()


def test_killed_it_breaks_its_streams_and_comes_back_clean() -> None:
    server = LiveServer("--ctx", "1024")
    expected = server.complete(max_tokens=12)[1]
    running = server.stream(max_tokens=900)
    server.kill()
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        running.read()
    with pytest.raises(ConnectionRefusedError):
        server.ask("GET", "/health")
    again = LiveServer("--ctx", "1024", port=server.port)
    try:
        assert again.port == server.port
        gauges = again.gauges()
        assert gauges["plait_kv_cache_usage"] == gauges["plait_generated_tokens_total"] == 0
        texts = [
            json.loads(answer)["choices"] for answer in (expected, again.complete(max_tokens=12)[1])
        ]
        assert texts[0] == texts[1]
    finally:
        assert again.close() == 0
        server.log.close()


class Clients:
    """Threads that ask again and again, until nobody listens; `seen` counts what came of it."""

    def __init__(self, server: LiveServer, count: int) -> None:
        self.server = server
        self.seen: Counter[str] = Counter()
        self.threads = [threading.Thread(target=self._run, daemon=True) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def end(self) -> Counter[str]:
        for thread in self.threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self.threads)
        return self.seen

    def _run(self) -> None:
        while True:
            try:
                status, answer = self.server.complete(max_tokens=24, ignore_eos=True)
            except ConnectionRefusedError:
                return
            except (OSError, http.client.HTTPException) as error:
                self.seen[type(error).__name__] += 1
                return
            self.seen[str(status)] += 1
            time.sleep(0.1 if status == 503 else 0)
            assert status != 200 or json.loads(answer)["usage"]["completion_tokens"] == 24


def is_full(server: LiveServer) -> bool:
    return server.gauges()["plait_requests_running"] == 4


@pytest.mark.soak
def test_sigterm_under_load_loses_nothing_that_it_took_on() -> None:
    server = LiveServer("--ctx", "1024", "--max-num-seqs", "4")
    clients = Clients(server, 12)  # more than run at once: some wait in the queue
    try:
        until(lambda: server.gauges()["plait_requests_waiting"] > 0)
        streams = [server.stream(max_tokens=80) for _ in range(3)]
        server.process.send_signal(signal.SIGTERM)
        for stream in streams:
            assert stream.read().endswith(b"data: [DONE]\n\n")
        assert server.process.wait(30) == 0
    finally:
        server.kill()
    seen = clients.end()
    assert seen["200"] >= 12
    assert seen["503"] > 0
    assert sum(seen.values()) - seen["200"] - seen["503"] <= 12, "at the last, closed port"
    assert set(seen) <= {"200", "503", "RemoteDisconnected", "ConnectionResetError"}
    server.log.close()


@pytest.mark.soak
def test_killed_under_load_and_started_again_it_serves_the_same_clients() -> None:
    server = LiveServer("--ctx", "1024", "--max-num-seqs", "4")
    port = server.port
    for _ in range(3):
        clients = Clients(server, 8)
        until(partial(is_full, server))
        server.kill()
        assert set(clients.end()) <= {"200", "RemoteDisconnected", "ConnectionResetError"}
        server.log.close()
        server = LiveServer("--ctx", "1024", "--max-num-seqs", "4", port=port)
        assert server.gauges()["plait_kv_cache_usage"] == 0
    assert server.complete()[0] == 200
    assert server.close() == 0
