"""What the parts of a server share: the model once it is loaded, the phase, who is being served."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from starlette.requests import HTTPConnection

from plait.core.traits import Traits
from plait.engine.worker import Worker
from plait.server.errors import RefusedError
from plait.server.fair_lock import FairLock
from plait.server.metrics import Metrics
from plait.server.places import Places
from plait.server.request_log import RequestLog
from plait.server.settings import ServerConfig
from plait.text.tokenizer import Tokenizer

BODIES = 8
"""Bodies of the largest size that may be in memory together."""


class Phase(StrEnum):
    """A server goes through them in this order."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Served:
    """An open model. names: what clients may call it, the first is the one that answers carry. template: a
    chat template instead of the model's own. words: what was decided while loading, a line each."""

    names: tuple[str, ...]
    worker: Worker
    tokenizer: Tokenizer
    traits: Traits
    words: tuple[str, ...]
    close: Callable[[], None]
    template: str | None = None
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def num_slots(self) -> int:
        """Tokens that the KV cache holds in all."""
        return self.worker.engine.scheduler.cache.num_slots


class State:
    """Belongs to the event loop. active: requests being worked on. body_bytes: those of bodies in memory."""

    def __init__(self, settings: ServerConfig) -> None:
        self.settings = settings
        self.phase = Phase.LOADING
        self.error: Exception | None = None
        self.active = Places(settings.max_concurrent_requests)
        self.body_bytes = Places(BODIES * settings.max_body_bytes)
        self.metrics = Metrics()
        self.reading = FairLock()
        self.compiling = FairLock()
        self.request_log = (
            RequestLog(settings.request_log, settings.log_requests)
            if settings.log_requests
            else None
        )
        self._served: Served | None = None

    @property
    def served(self) -> Served:
        """The model. Raises RefusedError (503) before it is there."""
        if self._served is None:
            raise loading()
        return self._served

    @property
    def is_loaded(self) -> bool:
        return self._served is not None

    def loaded(self, served: Served) -> None:
        """Take the model; from now on requests are answered, unless the server is ending already."""
        self._served = served
        self.metrics.watch(served.worker)
        if self.phase is Phase.LOADING:
            self.phase = Phase.READY


def state_of(connection: HTTPConnection) -> State:
    """The state of the server that a request came to."""
    state: State = connection.app.state.plait
    return state


def loading() -> RefusedError:
    """What is said while there is no model yet."""
    hint = "see /health"
    return RefusedError(503, "the model is being loaded", hint, code="loading", retry_after=1)
