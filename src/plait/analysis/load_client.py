"""The client side of HTTP/1.1 that a load generator needs, over asyncio: one request, one streamed answer.

A library would spend more of the machine that the server is measured on, and would tell less exactly when
the bytes came.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from plait.core.errors import UserError

MOST_BYTES = 1 << 24
"""Of one answer, and of one line of it."""


class BrokenAnswerError(Exception):
    """The answer is not HTTP, is too long, or ended before it was complete."""


class Address:
    """A server on this machine. url: http://HOST:PORT, with or without a path (such as /v1) behind it."""

    def __init__(self, url: str, key: str = "") -> None:
        """key: sent as a bearer token if it is not empty. Raises UserError for any other machine."""
        parts = urlsplit(url if "//" in url else f"http://{url}")
        try:
            port = parts.port or 80
        except ValueError as error:
            raise UserError(f"{url}: {error}", "such as http://127.0.0.1:8000") from None
        if parts.scheme != "http" or not _is_loopback(parts.hostname or ""):
            raise UserError(
                f"{url} is not a plain HTTP server on this machine",
                "load is put on 127.0.0.1 alone, such as http://127.0.0.1:8000",
            )
        self.host, self.port = parts.hostname or "", port
        self.base = parts.path.rstrip("/").removesuffix("/v1")
        self.key = key

    def head(self, method: str, path: str, length: int) -> bytes:
        lines = [
            f"{method} {self.base}{path} HTTP/1.1",
            f"Host: {self.host}:{self.port}",
            "Connection: close",
            "Content-Type: application/json",
            f"Content-Length: {length}",
            *([f"Authorization: Bearer {self.key}"] if self.key else []),
        ]
        return "\r\n".join([*lines, "", ""]).encode()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


class Answer:
    """status: of HTTP. The body comes as it arrives: `lines`, or all of it: `json`."""

    def __init__(self, reader: asyncio.StreamReader, status: int, headers: dict[str, str]) -> None:
        self._reader, self.status, self.headers = reader, status, headers
        self._left = MOST_BYTES

    async def lines(self) -> AsyncIterator[bytes]:
        """Lines of the body without their ends. Raises BrokenAnswerError when it ends too early."""
        rest = b""
        async for piece in self._pieces():
            self._left -= len(piece)
            if self._left < 0:
                raise BrokenAnswerError(f"more than {MOST_BYTES} bytes")
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                yield line.rstrip(b"\r")
        yield rest

    async def json(self) -> Any:
        """The whole body. Raises BrokenAnswerError when it is not JSON."""
        body = b"\n".join([line async for line in self.lines()])
        try:
            return json.loads(body)
        except ValueError as error:
            raise BrokenAnswerError(f"not JSON: {error}") from None

    async def _pieces(self) -> AsyncIterator[bytes]:
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            while size := _number(await self._reader.readline(), 16):
                yield await self._reader.readexactly(size)
                await self._reader.readexactly(2)
        elif "content-length" in self.headers:
            yield await self._reader.readexactly(_number(self.headers["content-length"].encode()))
        else:
            while piece := await self._reader.read(1 << 16):
                yield piece


def _number(text: bytes, base: int = 10) -> int:
    try:
        value = int(text.split(b";")[0], base)
    except ValueError:
        raise BrokenAnswerError(f"no length: {text[:40]!r}") from None
    if not 0 <= value <= MOST_BYTES:
        raise BrokenAnswerError(f"a length of {value} bytes")
    return value


class Connection:
    """One request on a connection of its own: `async with Connection(address, …) as answer`."""

    def __init__(self, address: Address, method: str, path: str, body: Any = None) -> None:
        """body: becomes JSON. OSError when nobody listens, BrokenAnswerError when it is not HTTP."""
        content = b"" if body is None else json.dumps(body).encode()
        self._address = address
        self._request = address.head(method, path, len(content)) + content

    async def __aenter__(self) -> Answer:
        address = self._address
        reader, self._writer = await asyncio.open_connection(
            address.host, address.port, limit=MOST_BYTES
        )
        try:
            self._writer.write(self._request)
            await self._writer.drain()
            return await _answer(reader)
        except BaseException:
            self._writer.close()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()


async def _answer(reader: asyncio.StreamReader) -> Answer:
    try:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    except asyncio.LimitOverrunError:
        raise BrokenAnswerError("headers without an end") from None
    version, _, rest = lines[0].partition(" ")
    if not version.startswith("HTTP/") or not rest[:3].isdigit():
        raise BrokenAnswerError(f"not HTTP: {lines[0][:40]!r}")
    pairs = (line.partition(":") for line in lines[1:] if line)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    return Answer(reader, int(rest[:3]), headers)
