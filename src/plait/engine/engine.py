"""The engine: every way of generating is the same step: plan, forward, decide, absorb.

One thread owns an engine (see worker.py for talking to it from others). Between steps requests may be
added, forked, cancelled and preempted in any order. The tokens of a request depend on its prompt, its
parameters and its seed, and on nothing else that happens here.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from collections.abc import Sequence as Listing
from dataclasses import replace
from typing import Any

from plait.core.errors import UserError
from plait.core.params import SamplingParams
from plait.core.sequence import Event
from plait.core.step import Runner
from plait.core.traits import Traits
from plait.core.window import FinishReason, Floats, Ints, Update
from plait.engine import admission, emission, isolation, proposing
from plait.engine.backlog import Backlog
from plait.engine.choices import Choices
from plait.engine.limits import NO_LIMITS, Limits
from plait.engine.metrics import EngineMetrics
from plait.engine.reading import Reading, Toll
from plait.iteration import pairs
from plait.iteration.base import ChooseParts, Job, Planner, Request, check_fit
from plait.iteration.constraining import Constraining, follow
from plait.iteration.deciding import decide
from plait.iteration.scheduler import Scheduler

log = logging.getLogger(__name__)


class Engine:
    """Owns the requests from `add` to the event that carries a finish_reason."""

    def __init__(
        self,
        scheduler: Scheduler,
        runner: Runner,
        traits: Traits,
        choose: ChooseParts,
        limits: Limits = NO_LIMITS,
        constraining: Constraining | None = None,
    ) -> None:
        """traits.context_length is the longest canvas this engine allows. limits: of each request; those of
        the backlog are for whoever submits from outside (worker.py). constraining: for structured output."""
        self.scheduler = scheduler
        self.runner = runner
        self.traits = traits
        self.limits = limits
        self.backlog = Backlog(limits)
        self.metrics = EngineMetrics(scheduler)
        self.toll = Toll()
        self._choose = choose
        self._requests: dict[int, Request] = {}
        self._waiting = Choices(scheduler, self._requests)
        self.constraining = constraining or Constraining()
        self._deadlines: dict[int, float] = {}
        self._num_ids = 0
        self._id_lock = threading.Lock()  # the one thing that `prepare` changes

    @property
    def has_work(self) -> bool:
        return self.scheduler.has_work

    @property
    def own_planner(self) -> Planner:
        """That of requests which name none."""
        return self._choose("auto", "auto")[0]

    @property
    def counters(self) -> dict[str, int]:
        """What the executor and the prefix cache counted since the model was loaded, for people."""
        return {**self.runner.counters(), **self.metrics.counters}

    @property
    def requests(self) -> list[Request]:
        """Those that have not ended, in order of arrival. May be asked for from any thread."""
        return list(self._requests.values())

    def add(self, prompt: Listing[int] | Ints, params: SamplingParams, **choices: Any) -> int:
        """Queue a request; returns its id. With n > 1 choice i is the request with the id `+ i`.

        choices: those of `prepare`. Raises UserError; then nothing has been queued.
        """
        return self.enqueue(self.prepare(prompt, params, **choices))

    def prepare(
        self,
        prompt: Listing[int] | Ints,
        params: SamplingParams,
        *,
        priority: int = 0,
        tenant: str = "",
        deadline: float | None = None,
        planner: str = "auto",
        decoder: str = "auto",
        proposer: str | None = None,
        options: Mapping[str, str] | None = None,
        cache_salt: str = "",
        watch: bool = False,
        answered: int = 0,
        score_from: int = 1,
    ) -> list[Request]:
        """What `enqueue` takes, one per choice, or a UserError.

        priority: lower goes first. tenant: for whom; tenants share what a step has. deadline: seconds from now after
        which it ends with reason DEADLINE, with what it has. planner, decoder: names of siblings ("auto": the engine's
        own), for decoders also within wrappers, "credit(threshold)". proposer: None: the engine's own. options: settings by
        name, as text. watch: whether events also show what may still change (`canvas`). cache_salt: prefixes are shared
        only among requests with the same. answered: so many tokens at the end of the prompt begin the answer. score_from:
        first position that `prompt_logprobs` is about. Any thread, at any time: touches nothing that a step uses.
        """
        ids = admission.checked_prompt(prompt, params, self.traits)
        room = len(ids) if params.infill else self.traits.context_length
        limit = self.limits.canvas(len(ids), params, room)
        place = admission.checked_priority(priority), admission.checked_tenant(tenant)
        seconds = self.limits.deadline(admission.checked_deadline(deadline))
        end = None if seconds is None else time.perf_counter() + seconds
        options = admission.checked_options(options)
        planner, options = proposing.of_request(planner, proposer, options)
        parts = self._choose(planner, decoder, options)
        check_fit(*parts, params)
        can_begin = parts[0].constrains and not parts[1].contrasts
        begun = admission.checked_start(ids, params, can_begin, answered, score_from)
        salt = admission.salted(admission.checked_salt(cache_salt), parts[0].pattern)
        held = params, begun, 0 if parts[0].guides else limit - len(ids) + len(begun)
        own = {"limit": limit, "salt": salt, "answered": len(begun), "scored": score_from}
        requests = [
            Request(seq, *parts, *place, end, self.constraining.state(*held))
            for seq in admission.sequences(self._take_ids(params.n), ids, params, **own)
        ]
        pairs.attach(requests, self.traits)
        self.limits.hold_kv(requests)
        for request in requests:
            seq = request.seq
            seq.edits, seq.is_watched = request.decoder.edits, watch
            seq.metrics.is_lossy = request.planner.is_drafting and request.decoder.is_lossy(params)
            request.planner.admit(seq)
            self.scheduler.check(request)
        self.constraining.guide(requests)
        return requests

    def enqueue(self, requests: list[Request]) -> int:
        """Queue what `prepare` gave. The first computes the prompt; the others are forked at its first token."""
        first, *others = requests
        self.scheduler.add(first)
        for request in requests:
            self._enter(request)
        self._waiting.wait(first, others)
        return first.seq.request_id

    def step(self) -> list[Event]:
        """One forward for the running requests; returns whatever became final.

        What fails for one request ends that request, with reason ERROR. Raises what concerns all of them.
        """
        begin = time.perf_counter()
        jobs = self.scheduler.plan()
        if self.backlog.entries:
            self.backlog.start(job.request.seq.request_id for job in jobs)
        masks = self.constraining.begin(jobs) if self.constraining.is_used else None
        rows = self._forward(jobs)
        updates = decide(jobs, rows, masks.take() if masks else ())
        events: list[Event] = []
        for job, update in zip(jobs, updates, strict=True):
            events += self._absorb(job, update)
        if self.scheduler.refused:
            events += self._refused()
        if self._deadlines:
            # After the forward: one that fails for everybody would lose the events of these.
            events += self._expired(time.perf_counter())
        seconds = time.perf_counter() - begin
        if self.toll.owed:
            self.toll.pay(seconds, self.scheduler.pace)
        self.metrics.count(len(jobs), events, seconds)
        return events

    def finish(self, request_id: int, reason: FinishReason) -> Event | None:
        """End a request now (a stop string was found, the client has gone). None: it had ended before."""
        request = self._requests.get(request_id)
        return self._close(request, emission.ending(request.seq, reason)) if request else None

    def cancel(self, request_id: int) -> Event | None:
        """End a request whose answer nobody wants any more."""
        return self.finish(request_id, FinishReason.CANCELLED)

    def end_all(self, reason: FinishReason, error: str | None = None) -> list[Event]:
        """End every request for the same reason."""
        return [
            self._close(request, emission.ending(request.seq, reason, error))
            for request in list(self._requests.values())
        ]

    def fork(self, request_id: int, seed: int) -> int:
        """A second request that goes on from where this one stands, sharing its pages; returns its id."""
        parent = self._requests[request_id]
        child_id = self._take_ids(1)
        seq = parent.seq.fork(child_id, seed=seed % 2**64)
        child = replace(parent, seq=seq, grammar=parent.grammar and parent.grammar.fork(), served=0)
        self._enter(child)
        self.scheduler.adopt(child, parent)
        return child_id

    def read(
        self,
        prompts: Listing[Listing[int] | Ints],
        cache_salt: str = "",
        deadline: float | None = None,
    ) -> Reading:
        """Hidden states of texts, forward by forward between the steps; arguments and threads as for `prepare`."""
        salt, first = admission.checked_salt(cache_salt), self._take_ids(len(prompts))
        end = self.limits.deadline(admission.checked_deadline(deadline))
        parts = self.scheduler, self.runner, self.traits, self.toll
        return Reading(prompts, first, *parts, salt, end)

    def preempt(self, request_id: int) -> None:
        """Take a request's memory; it goes on later. Nothing happens to one that is not running."""
        request = self._requests.get(request_id)
        if request in self.scheduler.running:
            self.scheduler.preempt(request)

    def _take_ids(self, count: int) -> int:
        """The first of `count` consecutive new ids."""
        with self._id_lock:
            first, self._num_ids = self._num_ids, self._num_ids + count
        return first

    def _forward(self, jobs: list[Job]) -> list[Floats | Exception]:
        if not jobs:
            return []
        begin = time.perf_counter()
        rows = isolation.forward(self.runner, jobs)
        self.metrics.took(jobs, time.perf_counter() - begin)
        return rows

    def _absorb(self, job: Job, update: Update | Exception) -> list[Event]:
        request, seq, window = job.request, job.request.seq, job.window
        if isinstance(update, Exception):
            return [self._fail(request, update)]
        try:
            self.scheduler.stored(job, update)
            seq.apply(update, self.traits.mask_token or 0)
            request.planner.absorb(seq, window, update)
            if request.grammar is not None:
                follow(request)
            event = emission.take(seq, self.traits)
            if seq.is_watched and len(window.targets):
                event = emission.watched(seq, event)
        except Exception as error:
            return [self._fail(request, error)]
        seq.metrics.num_forwards += 1
        seq.metrics.num_forwarded_positions += window.end - window.start
        if len(window.parents):
            self.metrics.verified(seq, window, update)
        if self._waiting.unborn and len(update.positions):
            self._waiting.born(request)
        if event and event.finish_reason:
            self._close(request, event)
        elif event:
            self.metrics.observe(seq, event)
        return [event] if event else []

    def _enter(self, request: Request) -> None:
        self._requests[key := request.seq.request_id] = request
        if request.deadline is not None:
            self._deadlines[key] = request.deadline

    def _expired(self, now: float) -> list[Event]:
        """End the requests whose time is up."""
        expired = [key for key, end in self._deadlines.items() if end <= now]
        return [e for key in expired if (e := self.finish(key, FinishReason.DEADLINE))]

    def _refused(self) -> list[Event]:
        refused, self.scheduler.refused = self.scheduler.refused, []
        return [self._fail(request, error) for request, error in refused]

    def _fail(self, request: Request, error: Exception) -> Event:
        """One request's failure is reported to it and to nobody else."""
        if not isinstance(error, UserError):
            log.error("request %d failed", request.seq.request_id, exc_info=error)
        return self._close(request, emission.ending(request.seq, FinishReason.ERROR, error))

    def _close(self, request: Request, event: Event) -> Event:
        """Forget a request; `event` is its last. Choices that waited for its prompt fend for themselves."""
        emission.seal(request.seq, event)
        self.scheduler.remove(request)
        self.backlog.leave(key := request.seq.request_id)
        self._deadlines.pop(key, None)
        del self._requests[key]
        self.metrics.observe(request.seq, event)
        self.metrics.finished[str(event.finish_reason)] += 1
        self._waiting.orphaned(key)
        return event
