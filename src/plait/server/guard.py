"""What every request passes first: who asks, whether the server is ready, how much it is.

A body is read whole before anything else sees it, so that a slow sender takes no place from others, and
within limits: of one body, of all bodies together, and of time.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Iterable, MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from plait.core.errors import BusyError, UserError
from plait.server.errors import RefusedError, response_to
from plait.server.logs import Record
from plait.server.schema.common import new_id
from plait.server.state import Phase, State, loading, state_of

FREE_PATHS = ("/", "/health")
FREE_FOLDER = "/page/"
"""Paths that need no key: they tell nothing, and a browser asks for them before it has one."""


class Guard:
    """ASGI middleware around the whole app. paths: of its routes, for the log and the metrics."""

    def __init__(self, app: ASGIApp, state: State, paths: Iterable[str]) -> None:
        self._app = app
        self._state = state
        self._paths = frozenset(paths)
        self._keys = [_digest(key) for key in state.settings.all_keys()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in self._paths else "-"
        record = Record(new_id("req_"), scope["method"], path)
        scope["plait"] = {"record": record, "tenant": ""}
        answer = _Answer(send, record)
        try:
            await self._admitted(scope, receive, answer)
        except UserError as error:
            await response_to(error)(scope, receive, answer)
        finally:
            record.ended(answer.status, self._state.metrics)
            self._write(scope, record)

    def _write(self, scope: Scope, record: Record) -> None:
        """A line of the log of requests; looking at the server is none."""
        if self._state.request_log is not None and scope["method"] == "POST":
            own = scope["plait"]
            fields = record.fields | ({"key": own["tenant"]} if own["tenant"] else {})
            self._state.request_log.write(fields, own.get("body"))

    async def _admitted(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_free = scope["path"] in FREE_PATHS or scope["path"].startswith(FREE_FOLDER)
        if self._keys and not is_free:
            scope["plait"]["tenant"] = self._tenant(Headers(scope=scope))
        if scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        self._check_phase()
        tenant = scope["plait"]["tenant"]
        body = await self._body(Headers(scope=scope), receive, tenant)
        if self._state.settings.log_prompts:
            scope["plait"]["body"] = body
        try:
            await self._work(scope, _replay(body, receive), send, tenant)
        finally:
            self._state.body_bytes.give(tenant, len(body))

    async def _work(self, scope: Scope, receive: Receive, send: Send, tenant: str) -> None:
        """Run a request that takes one of the places. The phase may have changed since it came."""
        self._check_phase()
        active = self._state.active
        if not active.take(tenant):
            raise BusyError(f"{active.total} requests are being worked on", "try again later", 1.0)
        try:
            await self._app(scope, receive, send)
        finally:
            active.give(tenant)

    def _tenant(self, headers: Headers) -> str:
        """A short hash of the key that was sent; every key is compared, so the time tells nothing."""
        scheme, _, key = headers.get("authorization", "").partition(" ")
        digest = _digest(key.strip())
        fits = [hmac.compare_digest(digest, known) for known in self._keys]
        if scheme.lower() == "bearer" and any(fits):
            return digest.hex()[:16]
        raise RefusedError(
            401, "this server wants an API key", "Authorization: Bearer KEY", code="invalid_api_key"
        )

    def _check_phase(self) -> None:
        if self._state.phase is Phase.LOADING:
            raise loading()
        if self._state.phase is Phase.DRAINING:
            raise RefusedError(503, "the server is ending", code="draining", retry_after=5)

    async def _body(self, headers: Headers, receive: Receive, tenant: str) -> bytes:
        """All of a body. Raises RefusedError for one that is too large, too slow or breaks off."""
        settings = self._state.settings
        length = headers.get("content-length", "")
        if length.isascii() and length.isdigit():
            self._check_size(int(length[:20]))
        parts, total = [], 0
        try:
            async with asyncio.timeout(settings.body_seconds):
                while (message := await receive())["type"] == "http.request":
                    part = message.get("body", b"")
                    self._check_size(total + len(part))
                    self._take_room(tenant, len(part))
                    total += len(part)
                    parts.append(part)
                    if not message.get("more_body"):
                        return b"".join(parts)
        except BaseException as error:
            self._state.body_bytes.give(tenant, total)
            if isinstance(error, TimeoutError):
                raise RefusedError(408, "the body took too long to arrive") from None
            raise
        self._state.body_bytes.give(tenant, total)
        raise RefusedError(400, "the body broke off")

    def _check_size(self, size: int) -> None:
        most = self._state.settings.max_body_bytes
        if size > most:
            raise RefusedError(
                413, f"the body has more than {most:,} bytes", "shorten it", code="body_too_large"
            )

    def _take_room(self, tenant: str, size: int) -> None:
        if not self._state.body_bytes.take(tenant, size):
            raise BusyError("too many large requests at once", "try again later", 1.0)


class _Answer:
    """Passes an answer on, with the request's id; remembers the status."""

    def __init__(self, send: Send, record: Record) -> None:
        self.status = 499
        self._send = send
        self._id = record.fields["request"]

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(raw=message.setdefault("headers", []))["X-Request-Id"] = self._id
        await self._send(message)


def record_of(request: Request) -> Record:
    """Where a request's numbers for the log go."""
    record: Record = _own(request.scope)["record"]
    return record


def tenant_of(request: Request) -> str:
    """Whose request it is: a hash of the API key, "" without keys."""
    return str(_own(request.scope)["tenant"])


def salt_of(request: Request, own: str | None = None) -> str:
    """Who may share a request's cached prefixes: its API key alone, and of that key's requests, if it has a
    salt of its own, those with the same."""
    settings = state_of(request).settings
    tenant = tenant_of(request) if settings.isolate_prefix_cache else ""
    return f"{tenant}/{own}" if own else tenant


def _own(scope: MutableMapping[str, Any]) -> dict[str, Any]:
    own: dict[str, Any] = scope["plait"]
    return own


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body first."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return first.pop() if first else await receive()

    return replayed
