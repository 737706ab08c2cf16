"""A server that looks like the real one to the page: it answers as the last message tells it to."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from plait.server.page import mount_page

METRICS = """# HELP plait_kv_cache_usage Share
plait_kv_cache_usage 0.25
plait_requests_running 1
plait_requests_waiting 2
"""
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>"
TIMINGS = {"predicted_per_second": 61.5, "cache_n": 4}


class FakeServer:
    """bodies: of all chats. has_left: set when a client has gone before the end. key: wanted of clients.
    may_go_on: released for each canvas that is to be sent."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.has_left = threading.Event()
        self.may_go_on = threading.Semaphore(0)
        self.key = ""
        self.app = FastAPI()
        self.app.middleware("http")(self._check)
        self.app.get("/v1/models")(self._models)
        self.app.get("/metrics")(lambda: Response(METRICS, media_type="text/plain"))
        self.app.post("/v1/chat/completions")(self._chat)
        mount_page(self.app)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @contextmanager
    def running(self, port: int = 0) -> Iterator[None]:
        """On a port of loopback until the end of the block."""
        with socket.create_server(("127.0.0.1", port)) as listener:
            self.port = listener.getsockname()[1]
            config = uvicorn.Config(self.app, log_level="warning", timeout_graceful_shutdown=1)
            server = uvicorn.Server(config)
            thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
            thread.start()
            try:
                yield
            finally:
                server.should_exit = True
                thread.join(20)
        assert not thread.is_alive()

    async def _check(self, request: Request, follow: Any) -> Response:
        is_open = not self.key or not request.url.path.startswith("/v1")
        if is_open or request.headers.get("authorization") == f"Bearer {self.key}":
            response: Response = await follow(request)
            return response
        return JSONResponse({"error": {"message": "no such key"}}, 401)

    async def _models(self) -> dict[str, Any]:
        return {"object": "list", "data": [{"id": "little"}, {"id": "large"}]}

    async def _chat(self, request: Request) -> Response:
        body = await request.json()
        self.bodies.append(body)
        said = body["messages"][-1]["content"]
        if said.startswith("refuse"):
            return JSONResponse({"error": {"message": "the prompt has 9000 tokens"}}, 400)
        if said.startswith("busy"):
            return JSONResponse({"error": {"message": "full"}}, 429, {"Retry-After": "7"})
        return StreamingResponse(self._events(said), media_type="text/event-stream")

    async def _events(self, said: str) -> AsyncIterator[bytes]:
        """ "say X": X; "forever": until the client leaves; "break", "die": an answer that ends badly; "canvas": a little
        of a canvas, until the client asks for more."""
        word, _, rest = said.partition(" ")
        try:
            if word == "canvas":
                for canvas in ([None, None, None], [" bl", None, HOSTILE], []):
                    await asyncio.to_thread(self.may_go_on.acquire)
                    yield _event(
                        {"choices": [{"delta": {}, "finish_reason": None, "canvas": canvas}]}
                    )
            if word == "forever":
                for number in range(600):
                    yield _piece(f"{number} ")
                    await asyncio.sleep(0.1)
            for letter in rest or "Hello":
                yield _piece(letter)
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.has_left.set()
            raise
        if word == "die":
            yield _event({"error": {"message": "the engine failed", "code": 500}})
        elif word != "break":
            usage = {"prompt_tokens": 9, "completion_tokens": len(rest or "Hello")}
            yield _event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
            yield _event({"choices": [], "usage": usage, "timings": TIMINGS})
            yield b"data: [DONE]\n\n"


def _piece(text: str) -> bytes:
    return _event({"choices": [{"delta": {"content": text}, "finish_reason": None}]})


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"
