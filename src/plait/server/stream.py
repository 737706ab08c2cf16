"""Answers on their way: server-sent events, and what happens when the client has gone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from plait.core.errors import UserError
from plait.server.errors import RefusedError, body_of, error_body
from plait.server.generation import Generation

log = logging.getLogger(__name__)

PING = b": ping\n\n"
DONE = b"data: [DONE]\n\n"
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}

Result = TypeVar("Result")


class EventStream(StreamingResponse):
    """Sends events until they end or the client has gone; either way the generation is closed."""

    def __init__(self, generation: Generation, events: AsyncIterator[bytes]) -> None:
        super().__init__(_whole(events), media_type="text/event-stream", headers=HEADERS)
        self._generation = generation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._generation.close()


def event(data: str, name: str | None = None) -> bytes:
    """One event. data: a line of JSON."""
    head = "" if name is None else f"event: {name}\n"
    return f"{head}data: {data}\n\n".encode()


def json_response(answer: BaseModel) -> Response:
    """A whole answer."""
    return Response(answer.model_dump_json(), media_type="application/json")


async def _whole(events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The events; an error on the way becomes the last of them."""
    try:
        async for one in events:
            yield one
    except UserError as error:
        yield event(json.dumps(body_of(error)))
    except Exception:
        log.exception("a stream failed")
        yield event(json.dumps(error_body(500, "the server failed; its log says how")))


async def unless_gone(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of `work`, which is cancelled when the client goes away. Raises RefusedError then."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise RefusedError(499, "the client has gone")
        return task.result()
    finally:
        for one in (task, gone):
            one.cancel()
            with contextlib.suppress(BaseException):
                await one


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
