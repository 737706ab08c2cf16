"""From the open port to the last answer: loading, serving, draining.

The port is open before the model is loaded, so that /health can say so. The first SIGTERM (or Ctrl-C) ends
the server gently: new requests get 503, running ones finish within the grace time. The second ends it now.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import socket
import time
from collections.abc import AsyncIterator, Callable
from types import FrameType

import uvicorn

from plait.core.errors import UserError
from plait.server import logs
from plait.server.app import create_app
from plait.server.settings import ServerConfig
from plait.server.state import Phase, Served, State

log = logging.getLogger(__name__)

CUT = 2
"""Seconds that connections get to close after the grace time."""

Open = Callable[[], Served]
Announce = Callable[[Served], None]


class Server(uvicorn.Server):
    """`run(sockets=[...])` serves until a signal, or until `drain` has been called and all is done."""

    def __init__(self, settings: ServerConfig, open_model: Open, announce: Announce) -> None:
        """open_model: loads the model, in a thread of its own. announce: told when that is done."""
        self.state = State(settings)
        self._open_model = open_model
        self._announce = announce
        self._deadline = 0.0
        app = create_app(self.state, self._lifespan())
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=CUT,
                lifespan="on",
                http="h11",
                ws="none",
            )
        )

    def drain(self) -> None:
        """End when the running requests have ended, or after the grace time."""
        if self.state.phase is not Phase.DRAINING:
            self.state.phase = Phase.DRAINING
            self._deadline = time.monotonic() + self.state.settings.grace_seconds

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal: the first drains, the second ends at once."""
        if self.state.phase is Phase.DRAINING:
            self.should_exit = self.force_exit = True
        self.drain()

    async def on_tick(self, counter: int) -> bool:
        """Asked ten times a second whether to end."""
        is_over = self.state.active.total == 0 or time.monotonic() >= self._deadline
        is_drained = self.state.phase is Phase.DRAINING and is_over
        return await super().on_tick(counter) or is_drained or self.state.error is not None

    @contextlib.asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[None]:
        loading = asyncio.create_task(self._load())
        yield
        await loading
        if self.state.is_loaded:
            await asyncio.to_thread(self.state.served.close)
        if self.state.request_log is not None:
            self.state.request_log.close()

    async def _load(self) -> None:
        try:
            served = await asyncio.to_thread(self._open_model)
        except Exception as error:  # raised again when the server has ended
            self.state.error = error
            return
        self.state.loaded(served)
        self._announce(served)


def _allow_connections() -> None:
    """Each connection is an open file, and shells often allow a process no more than 1,024 unless it asks."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def listen(settings: ServerConfig) -> socket.socket:
    """The open port. Raises UserError when it cannot be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except (OSError, OverflowError, UnicodeError) as error:
        where = f"{settings.host}:{settings.port}"
        raise UserError(
            f"{where} cannot be used: {error}", "--port 0 takes one that is free"
        ) from None


def url_of(listener: socket.socket) -> str:
    """Where clients find a server."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(
    settings: ServerConfig, listener: socket.socket, open_model: Open, announce: Announce
) -> None:
    """Serve until told to end. Raises what `open_model` raised."""
    logs.set_up(settings.log_format)
    _allow_connections()
    server = Server(settings, open_model, announce)
    server.run(sockets=[listener])
    if server.state.error is not None:
        raise server.state.error
