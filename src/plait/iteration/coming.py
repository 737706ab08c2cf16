"""When a prompt waits a step for another that begins the same way."""

from __future__ import annotations

from collections.abc import Iterable

from plait.core.config import PAGE
from plait.core.sequence import Sequence
from plait.core.window import Window
from plait.iteration.base import Job
from plait.kvcache.base import Cache

WORTH_WAITING = 2
"""Pages for which a prompt waits a step."""


def is_coming(seq: Sequence, window: Window, cache: Cache, jobs: Iterable[Job]) -> bool:
    """Whether this step computes what `window` would for another: then to wait for it is no slower."""
    least = max(WORTH_WAITING, (window.length - 1) // PAGE)
    return cache.shares and any(
        cache.coming(seq, job.request.seq, job.window) >= least
        for job in jobs
        if job.window.length > PAGE
    )
