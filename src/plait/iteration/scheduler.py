"""The scheduler: which requests take part in the next forward, and with how much.

It is blind to how a request generates. All it sees are windows: a prompt chunk, a decode token and a
diffusion block differ in their length only. A request that has begun and is no further behind than two smallest
windows **streams**: somebody waits for its next token; so does one whose canvas cannot be fed in pieces. The
rest is prompt, also the canvas of a request that was preempted. Each step has a budget of positions, spent in
this order:

1. running requests by (priority, step in which they were last served, positions they are behind): who was
   left out goes first, and among equals small windows go before large ones, so a long prompt takes what the
   others leave and a decode is never held up by it;
2. waiting requests by (priority, running requests of the same tenant, arrival), as long as there is budget,
   a free place and memory for the whole canvas as it stands.

A prompt waits while another that begins the same way is computed in the same step, and then goes on behind it.

**Pace.** While requests stream, the prompts of a step share a smaller budget (pace.py), if it is known what a
step costs on this machine. Alone, a prompt takes the largest chunk.

**Memory.** When pages run out, one of the running requests of the lowest priority (fairness.py: `worst`; of
one tenant's the latest arrival) gives all of its pages back, waits in its place of the queue and computes its
canvas again later. The worst request never preempts a better one: it keeps what it has and tries again in the
next step, when it will be first. So the best request can always take all pages there are, and since no
request is accepted that would not fit alone, somebody always gets on.

**Fairness.** Within a priority and a tenant nobody starves: the request served longest ago is first in line.
Tenants share what prompts may take by deficit round robin, and who has more streams than others lengthens a step
by little (division.py); when places or memory are short, the tenant that holds most makes room for one that holds
less (fairness.py). Across priorities lower numbers win, by definition.
"""

from __future__ import annotations

import time
from collections import Counter

from plait.core.sequence import Sequence
from plait.core.step import StepInput
from plait.core.window import Update, Window
from plait.iteration import fairness, pairs
from plait.iteration.base import Job, Request
from plait.iteration.capacity import check, too_little
from plait.iteration.coming import is_coming
from plait.iteration.company import Company
from plait.iteration.division import Division
from plait.iteration.pace import Pace
from plait.iteration.queues import Queues
from plait.kvcache.base import Cache


class Scheduler:
    """Owns the queues and asks the cache for memory.

    running: requests that hold pages. waiting: they hold none.
    refused: requests that turned out to need more memory than there is, or whose planner failed, with the reason;
        the engine takes them from here and ends them. company: who shares the steps, and what these cost, for
        planners that may feed more or less. is_short_of_memory: whether the last plan wanted more pages.
    num_lookups: admissions. num_prefix_hits, num_prefix_tokens: those that found a part of their canvas in the cache,
        and how much they and the running ones found."""

    def __init__(
        self,
        cache: Cache,
        *,
        max_num_batched_tokens: int,
        max_num_seqs: int,
        pace: Pace | None = None,
    ) -> None:
        """pace: None when nobody knows what a step costs; then a prompt always takes the largest chunk."""
        self.cache = cache
        self.max_num_batched_tokens = max_num_batched_tokens
        self.max_num_seqs = max_num_seqs
        self.pace = pace
        self.company = Company()
        self.running: list[Request] = []
        self.waiting = Queues()
        self.refused: list[tuple[Request, Exception]] = []
        self.num_preemptions = 0
        self.num_lookups = self.num_prefix_hits = self.num_prefix_tokens = 0
        self._step = self._arrivals = self._budget = 0
        self._division = Division(cache, max_num_batched_tokens)
        self._jobs: dict[int, Job] = {}
        self.is_short_of_memory = False

    @property
    def beside(self) -> int:
        """Positions that could be computed for others beside what runs, as if they were a prompt's."""
        return self._division.beside(self.running, self.pace)

    @property
    def has_work(self) -> bool:
        return bool(self.running or self.waiting)

    def check(self, request: Request) -> None:
        """Raise CapacityError for a request that could never run. Changes nothing."""
        check(request, self.cache, self.max_num_batched_tokens)

    def add(self, request: Request) -> None:
        """Queue a request that has passed `check`."""
        self._number(request)
        self.waiting.add(request)

    def adopt(self, request: Request, parent: Request) -> None:
        """Queue a request that may start with the slots of `parent`, if there is a place for it now."""
        self._number(request)
        if parent in self.running and len(self.running) < self.max_num_seqs:
            for old, new in zip(parent.streams, request.streams, strict=True):
                self.cache.fork(old, new)
            self._start(request, self.cache.length(request.seq))
        else:
            self.waiting.add(request)

    def remove(self, request: Request) -> None:
        """Forget a request and give its pages back."""
        self._release(request)
        self.waiting.discard(request)
        if request in self.running:
            self.running.remove(request)

    def preempt(self, request: Request) -> None:
        """Take a running request's pages; it waits and computes its canvas again later."""
        self._release(request)
        self.running.remove(request)
        self.waiting.add(request)
        job = self._jobs.pop(request.seq.request_id, None)
        if job:
            self._budget += job.length
        request.seq.metrics.num_preemptions += 1
        self.num_preemptions += 1

    def stored(self, job: Job, update: Update) -> None:
        """Take note of what a forward computed for a job, and of what was decided."""
        seq, window, second = job.request.seq, job.window, job.second
        self.cache.stored(seq, window.kept(update.accepted) if update.accepted else window)
        if second:
            self.cache.stored(second.sequence, second.window)
        if seq.second:
            pairs.follow(seq, update)

    def plan(self) -> list[Job]:
        """The next forward. Empty only when there is no work, or what there was has been refused."""
        self._step += 1
        self._budget = self.max_num_batched_tokens
        self._jobs, self.is_short_of_memory = {}, False
        self.company.num_running, self.company.num_drafted = max(1, len(self.running)), 0
        self._division.begin(self.running, self.waiting, self.max_num_seqs, self.pace)
        self._spend()
        if not self._jobs:
            self._division.open()
            self._spend()
        jobs, self._jobs = list(self._jobs.values()), {}
        assert jobs or self.refused or not self.has_work, "requests are waiting, but none can go on"
        return jobs

    def _spend(self) -> None:
        running = self.running
        for request in sorted(running, key=self._turn) if len(running) > 1 else [*running]:
            if request in self.running:  # it may have been preempted or refused meanwhile
                self._plan_one(request)
        self._admit()

    def _turn(self, request: Request) -> tuple[int, int, int, int]:
        return request.priority, request.served, self._division.behind(request), request.arrival

    def _admit(self) -> None:
        """Move waiting requests to the running ones, best first, while everything suffices."""
        while self.waiting.queues and self._budget:
            request = self._first_in_line()
            if request is None or not (self._find_place(request) and self._plan_one(request)):
                return

    def _first_in_line(self) -> Request | None:
        held = Counter(request.account for request in self.running)
        holds = self._division.holds
        heads = [head for head in self.waiting.heads() if holds(head, is_prompt=True)]
        if self.is_short_of_memory:  # only at the cost of a tenant that holds more
            running, slots = self.running, self._slots
            heads = [h for h in heads if fairness.surplus(running, h, slots, h.seq.length)]
        return min(heads, key=lambda r: (r.priority, held[r.account], r.arrival), default=None)

    def _find_place(self, request: Request) -> bool:
        """Start a request, at the cost of a tenant that holds more if need be."""
        seq = request.seq
        if len(self.running) >= self.max_num_seqs:
            last = fairness.surplus(self.running, request, lambda _: 1, 1)
            if last is None:
                return False
            self.preempt(last)
        num_cached = self.cache.match(seq)
        while not self.cache.reserve(seq, seq.length):
            last = fairness.surplus(self.running, request, self._slots, seq.length)
            if last is None:
                self.cache.release(seq)
                return False
            self.preempt(last)
        self.waiting.discard(request)
        self.num_lookups += 1
        self.num_prefix_hits += num_cached > 0
        self.num_prefix_tokens += num_cached
        self._start(request, num_cached)
        return True

    def _slots(self, request: Request) -> int:
        return sum(map(self.cache.length, request.streams))

    def _start(self, request: Request, num_cached: int) -> None:
        self.running.append(request)
        metrics = request.seq.metrics
        if metrics.first_scheduled_time is None:
            metrics.first_scheduled_time = time.perf_counter()
            metrics.num_cached_tokens = min(num_cached, request.seq.prompt_length)

    def _plan_one(self, request: Request) -> bool:
        """Give a running request a window, if budget and memory allow; False if they do not."""
        seq, cache, division = request.seq, self.cache, self._division
        is_alone, least = division.is_alone, 1 if seq.second is None else 2
        is_prompt = not (is_alone or division.streams(request))
        held = self._budget if is_alone else division.holds(request, is_prompt=is_prompt)
        allowed = min(self._budget, max(held, least) if held else 0)
        if allowed < least:
            return False
        # A cache that keeps nothing cannot go on from a chunk: the window must be whole.
        budget = allowed if cache.keeps else self.max_num_batched_tokens
        stored = self._catch_up(seq)
        held = cache.held(seq) if request.planner.approximates else stored
        try:
            window = request.planner.next(seq, held, budget)
        except Exception as error:  # a faulty planner ends this request and nobody else's
            self._refuse(request, error)
            return False
        if window is None or window.end - window.start > allowed:
            return False
        if is_prompt and is_coming(seq, window, cache, self._jobs.values()):
            return True
        if window.start < stored:
            cache.truncate(seq, window.start)
        if len(window.parents) and not cache.reserve(seq, window.reach):
            window = window.undrafted  # no draft is worth a page of others
        job = self._paired(request, window, budget)
        if job is None or (length := job.length) > allowed:
            return False
        self._budget -= length
        if not is_alone:
            division.spend(request, length, is_prompt=is_prompt)
        self._jobs[seq.request_id] = job
        request.served = self._step
        return True

    def _paired(self, request: Request, window: Window, budget: int) -> Job | None:
        """The request's part of the step, with that of its second stream; None for want of memory."""
        seq, cache, other, fed = request.seq, self.cache, request.seq.second, None
        if other is not None:
            stored = self._catch_up(other)
            window, fed = pairs.synchronised(seq, window, stored, budget - window.length)
        if not (cache.reserve(seq, reach := window.reach) or self._make_room(request, seq, reach)):
            return None
        if other is None or fed is None:
            return Job(request, window, cache.view(seq, window))
        if fed.start < stored:
            cache.truncate(other, fed.start)
        if not self._make_room(request, other, fed.reach):
            return None
        beside = StepInput(other, fed, cache.view(other, fed))
        return Job(request, window, cache.view(seq, window), beside)

    def _catch_up(self, seq: Sequence) -> int:
        """Slots that need no computing; others may have stored some since the last window."""
        held = self.cache.length(seq)
        if seq.length - held <= 1:  # the last one has to be computed, so there is nothing to find
            return held
        stored = self.cache.match(seq)
        self.num_prefix_tokens += stored - held
        if not seq.metrics.num_preemptions:
            seq.metrics.num_cached_tokens += stored - held
        return stored

    def _release(self, request: Request) -> None:
        for seq in request.streams:
            self.cache.release(seq)

    def _make_room(self, request: Request, seq: Sequence, upto: int) -> bool:
        """Reserve slots of one of its streams, at the cost of worse requests if need be."""
        while not self.cache.reserve(seq, upto):
            self.is_short_of_memory = True
            worst = fairness.worst(self.running, self.cache)
            if worst is request:
                if len(self.running) == 1:
                    self._refuse(request, too_little(self.cache, upto))
                return False
            self.preempt(worst)
        return True

    def _refuse(self, request: Request, error: Exception) -> None:
        self.remove(request)
        self.refused.append((request, error))

    def _number(self, request: Request) -> None:
        self._division.enter(request)
        self._arrivals += 1
        request.arrival = self._arrivals
