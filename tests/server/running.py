"""A server in a thread of the test's own process, on a free port of loopback."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from plait import LLM
from plait.server import lifecycle
from plait.server.settings import ServerConfig
from plait.server.state import Served

PATIENCE = 60.0


def served(llm: LLM, *names: str, close: Callable[[], None] = lambda: None) -> Served:
    """What the server is given for an open model, which stays open."""
    return Served(names, llm.worker, llm.tokenizer, llm.traits, llm.words, close)


@contextmanager
def running(open_model: Callable[[], Served], **settings: Any) -> Iterator[Running]:
    """Until the end of the block."""
    one = Running(open_model, ServerConfig(port=0, **settings))
    try:
        yield one
    finally:
        one.stop()


class Running:
    """http: a client for raw requests."""

    def __init__(self, open_model: Callable[[], Served], settings: ServerConfig) -> None:
        listener = lifecycle.listen(settings)
        self.url = lifecycle.url_of(listener)
        self.http = httpx.Client(base_url=self.url, timeout=PATIENCE)
        self.server = lifecycle.Server(settings, open_model, lambda _: None)
        self._thread = threading.Thread(
            target=self.server.run, kwargs={"sockets": [listener]}, daemon=True
        )
        self._thread.start()

    def ready(self) -> Running:
        """Wait until the model is loaded."""
        until(lambda: self.http.get("/health").status_code == 200)
        return self

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        return self.http.post(path, json=body, headers=headers)

    def events(self, path: str, body: dict[str, Any]) -> list[Any]:
        """The data of a stream's events, the end mark as text."""
        answer = self.post(path, {**body, "stream": True})
        assert answer.status_code == 200, answer.text
        lines = [line.removeprefix("data: ") for line in answer.text.splitlines()]
        found = [line for line in lines if line and not line.startswith((":", "event:"))]
        return [line if line == "[DONE]" else json.loads(line) for line in found]

    def stop(self) -> None:
        self.server.drain()
        self._thread.join(PATIENCE)
        self.http.close()
        assert not self._thread.is_alive()


def until(condition: Callable[[], bool]) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)
