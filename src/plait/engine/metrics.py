"""What the engine counts. Times are seconds of wall clock."""

from __future__ import annotations

import bisect
import itertools
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from plait.core.sequence import Event, Sequence
from plait.core.window import Update, Window
from plait.iteration.base import Job
from plait.iteration.scheduler import Scheduler

BOUNDS = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    *(1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0),
)


@dataclass(slots=True)
class Histogram:
    """counts[i]: observations in (BOUNDS[i - 1], BOUNDS[i]]; one more for those above all. sum: of all."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    sum: float = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect.bisect_left(BOUNDS, seconds)] += 1
        self.sum += seconds

    def buckets(self) -> list[tuple[float, int]]:
        """Upper bounds, the last infinite, each with how many observations are not above it."""
        return list(zip((*BOUNDS, math.inf), itertools.accumulate(self.counts), strict=True))


@dataclass(slots=True)
class EngineMetrics:
    """Totals since the engine was built.

    scheduler: it and its cache count some of these themselves. num_steps: calls of step. num_windows: forwards counted per sequence (a step with 16 requests has 16).
    num_positions: positions fed. num_tokens: tokens that became final. finished: requests by reason.
    num_lookups: requests admitted or resumed. num_cached_tokens: positions that these found in the cache.
    num_evicted_pages: pages kept for later requests that others needed first.
    num_drafted, num_accepted: tokens that were drafted, and those that were right. drafts, accepted: the same by
    place in the draft, from 0. draft_seconds: that drafting took, outside forward_seconds. plain_seconds: what the
    tokens of ended requests that may draft would have taken one at a time, by what such steps took, and
    decode_seconds what they took, both from their first tokens on.
    time_to_first_token: from submission, per request. time_per_token: between the first token and the end,
    per request that has more than one.
    """

    scheduler: Scheduler
    num_steps: int = 0
    num_windows: int = 0
    num_positions: int = 0
    num_tokens: int = 0
    num_drafted: int = 0
    num_accepted: int = 0
    drafts: Counter[int] = field(default_factory=Counter)
    accepted: Counter[int] = field(default_factory=Counter)
    plain_seconds: float = 0.0
    decode_seconds: float = 0.0
    forward_seconds: float = 0.0
    step_seconds: float = 0.0
    finished: Counter[str] = field(default_factory=Counter)
    time_to_first_token: Histogram = field(default_factory=Histogram)
    time_per_token: Histogram = field(default_factory=Histogram)

    @property
    def num_preemptions(self) -> int:
        return self.scheduler.num_preemptions

    @property
    def num_lookups(self) -> int:
        return self.scheduler.num_lookups

    @property
    def num_cached_tokens(self) -> int:
        return self.scheduler.num_prefix_tokens

    @property
    def num_evicted_pages(self) -> int:
        return self.scheduler.cache.pool.num_evicted

    @property
    def draft_seconds(self) -> float:
        return self.scheduler.company.draft_seconds

    @property
    def tokens_per_forward(self) -> float:
        """TPF: final tokens per forward of a sequence, prompt chunks included."""
        return self.num_tokens / max(1, self.num_windows)

    @property
    def position_efficiency(self) -> float:
        """Final tokens per forwarded position."""
        return self.num_tokens / max(1, self.num_positions)

    @property
    def counters(self) -> dict[str, int]:
        """Of drafts and of the prefix cache, for people."""
        return {
            "drafted": self.num_drafted,
            "accepted": self.num_accepted,
            "prefix_lookups": self.num_lookups,
            "prefix_hit_tokens": self.num_cached_tokens,
            "prefix_evicted_pages": self.num_evicted_pages,
        }

    def took(self, jobs: list[Job], seconds: float) -> None:
        """Take a forward into the totals, and into what steps are seen to cost."""
        self.forward_seconds += seconds
        positions = before = 0
        for job in jobs:
            positions += job.length if job.second else job.window.end - job.window.start
            before += job.window.start
        self.num_positions += positions
        self.scheduler.company.observe(positions, seconds, before // len(jobs))

    def count(self, num_jobs: int, events: Iterable[Event], seconds: float) -> None:
        """Take one step into the totals."""
        self.step_seconds += seconds
        self.num_steps += 1
        self.num_windows += num_jobs
        for event in events:
            self.num_tokens += len(event.token_ids)

    def verified(self, seq: Sequence, window: Window, update: Update) -> None:
        """Take what became of a draft into the totals of its request and of all, once the answer was cut at a token
        that ends it."""
        drafted = len(window.parents)
        accepted = max(0, int(np.count_nonzero(update.positions < seq.emitted)) - 1)
        seq.metrics.num_drafted += drafted
        seq.metrics.num_accepted += accepted
        seq.metrics.drafts.update(range(drafted))
        seq.metrics.accepted.update(range(accepted))
        self.num_drafted += drafted
        self.num_accepted += accepted
        self.drafts.update(range(drafted))
        self.accepted.update(range(accepted))

    def observe(self, seq: Sequence, event: Event) -> None:
        """Take the times of a request into the totals, with the first of its events and with the last."""
        times, num_tokens = seq.metrics, seq.emitted - seq.prompt_length - seq.answered
        if times.first_token_time is None:
            return
        if event.token_ids and len(event.token_ids) == num_tokens:
            self.time_to_first_token.observe(times.first_token_time - times.arrival_time)
        later = num_tokens - times.num_first_tokens
        if times.finished_time is not None and later > 0:
            seconds = times.finished_time - times.first_token_time
            self.time_per_token.observe(seconds / later)
            if times.plain_seconds:
                self.plain_seconds += times.plain_seconds
                self.decode_seconds += seconds
