"""The scheduler: which requests take part in the next forward, and with how much.

It is blind to how a request generates. All it sees are windows: a prompt chunk, a decode token and a
diffusion block differ in their length only. Each step has a budget of positions, spent in this order:

1. running requests by (priority, step in which they were last served, positions they are behind): who was
   left out goes first, and among equals small windows go before large ones, so a long prompt takes what the
   others leave and a decode is never held up by it;
2. waiting requests by (priority, arrival), as long as there is budget, a free place and memory for the
   whole canvas as it stands.

**Memory.** When pages run out, the running request of the highest rank number (lowest priority, then latest
arrival) gives all of its pages back, waits at the head of the queue and computes its canvas again later. The
request being planned never preempts a better one: it keeps what it has and tries again in the next step,
when it will be first. So the best request can always take all pages there are, and since no request is
accepted that would not fit alone, somebody always gets on.

**Fairness.** Within a priority nobody starves: the request served longest ago is first in line with the
whole budget. Across priorities lower numbers win, by definition.
"""

from __future__ import annotations

import bisect
import time

from plait.core.errors import CapacityError, UserError
from plait.core.sequence import Sequence
from plait.iteration.base import Job, Request
from plait.kvcache.base import Cache


class Scheduler:
    """Owns the queues and asks the cache for memory.

    running: requests that hold pages. waiting: sorted by rank, they hold none.
    refused: requests that turned out to need more memory than there is, with the reason; the engine
        takes them from here and ends them. is_short_of_memory: whether the last plan wanted more pages.
    num_lookups: requests admitted or resumed. num_cached_tokens: what they and the running ones found in the
        cache and did not have to compute.
    """

    def __init__(self, cache: Cache, *, max_num_batched_tokens: int, max_num_seqs: int) -> None:
        self.cache = cache
        self.max_num_batched_tokens = max_num_batched_tokens
        self.max_num_seqs = max_num_seqs
        self.running: list[Request] = []
        self.waiting: list[Request] = []
        self.refused: list[tuple[Request, UserError]] = []
        self.num_preemptions = 0
        self.num_lookups = 0
        self.num_cached_tokens = 0
        self._step = 0
        self._arrivals = 0
        self._budget = 0
        self._jobs: dict[int, Job] = {}
        self.is_short_of_memory = False

    @property
    def has_work(self) -> bool:
        return bool(self.running or self.waiting)

    def check(self, request: Request) -> None:
        """Raise CapacityError for a request that could never run. Changes nothing."""
        span = request.planner.span(request.seq)
        if span > self.cache.num_slots:
            raise CapacityError(
                f"the request may need {span} slots of KV cache, but there are {self.cache.num_slots}",
                "ask for fewer tokens, or raise kv_memory",
            )
        if not self.cache.keeps and span > self.max_num_batched_tokens:
            raise CapacityError(
                f"this cache computes the whole canvas in every step: the request may reach {span} "
                f"positions, but a step feeds at most {self.max_num_batched_tokens}",
                "ask for fewer tokens, raise max_num_batched_tokens, or use the cache 'paged'",
            )

    def add(self, request: Request) -> None:
        """Queue a request that has passed `check`."""
        self._number(request)
        bisect.insort(self.waiting, request, key=_rank)

    def adopt(self, request: Request, parent: Request) -> None:
        """Queue a request that may start with the slots of `parent`, if there is a place for it now."""
        self._number(request)
        if parent in self.running and len(self.running) < self.max_num_seqs:
            self.cache.fork(parent.seq, request.seq)
            self._start(request, self.cache.length(request.seq))
        else:
            bisect.insort(self.waiting, request, key=_rank)

    def remove(self, request: Request) -> None:
        """Forget a request and give its pages back."""
        self.cache.release(request.seq)
        for queue in (self.running, self.waiting):
            if request in queue:
                queue.remove(request)

    def preempt(self, request: Request) -> None:
        """Take a running request's pages; it waits and computes its canvas again later."""
        self.cache.release(request.seq)
        self.running.remove(request)
        bisect.insort(self.waiting, request, key=_rank)
        job = self._jobs.pop(request.seq.request_id, None)
        if job:
            self._budget += job.window.length
        request.seq.metrics.num_preemptions += 1
        self.num_preemptions += 1

    def plan(self) -> list[Job]:
        """The next forward. Empty only when there is no work, or what there was has been refused."""
        self._step += 1
        self._budget = self.max_num_batched_tokens
        self._jobs = {}
        self.is_short_of_memory = False
        for request in sorted(self.running, key=self._turn):
            if request in self.running:  # it may have been preempted or refused meanwhile
                self._plan_one(request)
        self._admit()
        jobs, self._jobs = list(self._jobs.values()), {}
        assert jobs or self.refused or not self.has_work, "requests are waiting, but none can go on"
        return jobs

    def _turn(self, request: Request) -> tuple[int, int, int, int]:
        behind = request.seq.length - self.cache.length(request.seq)
        return request.priority, request.served, behind, request.arrival

    def _admit(self) -> None:
        """Move waiting requests to the running ones, best first, while everything suffices."""
        while self.waiting and self._budget and not self.is_short_of_memory:
            request = self.waiting[0]
            if len(self.running) == self.max_num_seqs:
                return
            num_cached = self.cache.match(request.seq)
            if not self.cache.reserve(request.seq, request.seq.length):
                self.cache.release(request.seq)
                return
            self._start(self.waiting.pop(0), num_cached)
            self.num_lookups += 1
            self.num_cached_tokens += num_cached
            self._plan_one(request)

    def _start(self, request: Request, num_cached: int) -> None:
        self.running.append(request)
        metrics = request.seq.metrics
        if metrics.first_scheduled_time is None:
            metrics.first_scheduled_time = time.perf_counter()
            metrics.num_cached_tokens = num_cached

    def _plan_one(self, request: Request) -> None:
        """Give a running request a window, if budget and memory allow."""
        if not self._budget:
            return
        seq, cache = request.seq, self.cache
        # A cache that keeps nothing cannot go on from a chunk: the window must be whole.
        budget = self._budget if cache.keeps else self.max_num_batched_tokens
        stored = self._catch_up(seq)
        window = request.planner.next(seq, stored, budget)
        if window is None or window.length > self._budget:
            return
        if window.start < stored:
            cache.truncate(seq, window.start)
        if not self._make_room(request, window.end):
            return
        self._budget -= window.length
        self._jobs[seq.request_id] = Job(request, window, cache.view(seq, window))
        request.served = self._step

    def _catch_up(self, seq: Sequence) -> int:
        """Slots that need no computing; others may have stored some since the last window."""
        held, stored = self.cache.length(seq), self.cache.match(seq)
        self.num_cached_tokens += stored - held
        if not seq.metrics.num_preemptions:
            seq.metrics.num_cached_tokens += stored - held
        return stored

    def _make_room(self, request: Request, upto: int) -> bool:
        """Reserve slots, at the cost of worse requests if need be."""
        while not self.cache.reserve(request.seq, upto):
            self.is_short_of_memory = True
            worst = max(self.running, key=_rank)
            if worst is not request:
                self.preempt(worst)
            elif len(self.running) > 1:
                return False
            else:
                self._refuse(request, upto)
                return False
        return True

    def _refuse(self, request: Request, upto: int) -> None:
        free = self.cache.num_free_slots
        self.remove(request)
        message = f"the request needs {upto} slots of KV cache, and only {free} more are free"
        self.refused.append((request, CapacityError(message, "raise kv_memory")))

    def _number(self, request: Request) -> None:
        self._arrivals += 1
        request.arrival = self._arrivals


def _rank(request: Request) -> tuple[int, int]:
    return request.rank
