"""The backlog: requests that have been submitted and have not started, and how many there may be."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Iterable
from typing import NamedTuple

from plait.core.errors import BusyError
from plait.engine.limits import Limits
from plait.iteration.base import Request

LONGEST_WAIT = 60.0
"""Seconds that a client is asked to wait at most before it tries again."""


class _Entry(NamedTuple):
    tenant: str
    tokens: int


class Backlog:
    """May be used from any thread.

    A full backlog still takes requests of a tenant that has less than an equal share of it, so nobody can
    keep the others out by filling it: with n tenants it grows to 1 + 1/2 + ... + 1/n times the limit at most.
    What is larger than the whole limit gets in when nothing waits.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self.entries: dict[int, _Entry] = {}
        self._requests: Counter[str] = Counter()
        self._tokens: Counter[str] = Counter()
        self._starts: deque[float] = deque(maxlen=32)

    @property
    def num_requests(self) -> int:
        return len(self.entries)

    @property
    def num_tokens(self) -> int:
        """Prompt tokens, those of a request with several choices once."""
        with self._lock:
            return self._tokens.total()

    def enter(self, requests: list[Request]) -> None:
        """Take in the choices of one request, all or none. Raises BusyError."""
        tenant, tokens = requests[0].tenant, requests[0].seq.prompt_length
        most, most_tokens = self._limits.max_queued_requests, self._limits.max_queued_tokens
        with self._lock:
            self._hold("requests", self._requests, tenant, len(requests), most)
            self._hold("prompt tokens", self._tokens, tenant, tokens, most_tokens)
            for place, request in enumerate(requests):
                entry = _Entry(tenant, 0 if place else tokens)
                self.entries[request.seq.request_id] = entry
                self._requests[tenant] += 1
                self._tokens[tenant] += entry.tokens

    def start(self, request_ids: Iterable[int]) -> None:
        """These run now. Nothing happens for those that are not in the backlog."""
        if self.entries:
            now = time.perf_counter()
            self._starts += [now for request_id in request_ids if self.leave(request_id)]

    def leave(self, request_id: int) -> bool:
        """Whether it was there; it is no longer."""
        with self._lock:
            entry = self.entries.pop(request_id, None)
            if entry is None:
                return False
            self._requests[entry.tenant] -= 1
            self._tokens[entry.tenant] -= entry.tokens
            if not self._requests[entry.tenant]:
                del self._requests[entry.tenant], self._tokens[entry.tenant]
        return True

    def _hold(self, what: str, counts: Counter[str], tenant: str, count: int, most: int) -> None:
        total, own = counts.total(), counts[tenant]
        share = most // len({*self._requests, tenant})
        if not most or not total or total + count <= most or own + count <= share:
            return
        raise BusyError(
            f"{total} {what} are waiting, and the queue holds {most}",
            "try again later",
            self._retry_after(),
        )

    def _retry_after(self) -> float:
        """Seconds until about as many have started as wait now, judged by the last few starts."""
        if len(self._starts) < 2:
            return 1.0
        gap = (time.perf_counter() - self._starts[0]) / len(self._starts)
        return min(LONGEST_WAIT, max(1.0, gap * len(self.entries)))
