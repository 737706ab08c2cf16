"""What the engine counts. Times are seconds of wall clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from plait.core.sequence import Event
from plait.iteration.base import Job
from plait.iteration.scheduler import Scheduler


@dataclass(slots=True)
class EngineMetrics:
    """Totals since the engine was built.

    num_steps: calls of step. num_windows: forwards counted per sequence (a step with 16 requests has 16).
    num_positions: positions fed. num_tokens: tokens that became final. finished: requests by reason.
    num_lookups: requests admitted or resumed. num_cached_tokens: positions that these found in the cache.
    num_evicted_pages: pages kept for later requests that others needed first.
    """

    num_steps: int = 0
    num_windows: int = 0
    num_positions: int = 0
    num_tokens: int = 0
    num_preemptions: int = 0
    num_lookups: int = 0
    num_cached_tokens: int = 0
    num_evicted_pages: int = 0
    forward_seconds: float = 0.0
    step_seconds: float = 0.0
    finished: Counter[str] = field(default_factory=Counter)

    @property
    def tokens_per_forward(self) -> float:
        """TPF: final tokens per forward of a sequence, prompt chunks included."""
        return self.num_tokens / max(1, self.num_windows)

    @property
    def position_efficiency(self) -> float:
        """Final tokens per forwarded position."""
        return self.num_tokens / max(1, self.num_positions)

    def copy_totals(self, scheduler: Scheduler) -> None:
        """Take over what the scheduler and its cache count themselves."""
        self.num_preemptions = scheduler.num_preemptions
        self.num_lookups = scheduler.num_lookups
        self.num_cached_tokens = scheduler.num_cached_tokens
        self.num_evicted_pages = scheduler.cache.pool.num_evicted

    def count(self, jobs: Iterable[Job], events: Iterable[Event]) -> None:
        """Take one step into the totals."""
        self.num_steps += 1
        for job in jobs:
            self.num_windows += 1
            self.num_positions += job.window.length
        for event in events:
            self.num_tokens += len(event.token_ids)
