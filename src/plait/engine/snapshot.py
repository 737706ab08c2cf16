"""What the engine is doing right now, for people and for monitoring."""

from __future__ import annotations

from dataclasses import dataclass

from plait.core.sequence import Sequence
from plait.engine.engine import Engine
from plait.engine.metrics import Histogram
from plait.iteration.base import Request


@dataclass(frozen=True, slots=True)
class RequestState:
    """One choice of a request. state: "queued" (has not run yet), "running" or "preempted" (waits to go on).

    prompt_tokens, generated: in tokens; generated counts those that have been handed out. computed: slots
    that lie in the KV cache. deadline: on the clock of time.perf_counter.
    """

    request_id: int
    tenant: str
    priority: int
    state: str
    prompt_tokens: int
    computed: int
    generated: int
    deadline: float | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """num_queued, num_queued_tokens: of requests that have not started yet, submitted ones included that the
    engine has not seen. num_waiting: preempted ones too. occupancy: share of the KV cache in use, 0 to 1.
    The rest are totals since the engine was built; see EngineMetrics and Scheduler.
    """

    num_queued: int
    num_queued_tokens: int
    num_running: int
    num_waiting: int
    occupancy: float
    num_steps: int
    num_windows: int
    num_positions: int
    num_tokens: int
    num_preemptions: int
    num_prefix_hits: int
    num_prefix_tokens: int
    num_drafted: int
    num_accepted: int
    drafts: dict[int, int]
    accepted: dict[int, int]
    draft_seconds: float
    plain_seconds: float
    decode_seconds: float
    finished: dict[str, int]
    time_to_first_token: Histogram
    time_per_token: Histogram
    requests: tuple[RequestState, ...]


def take(engine: Engine) -> Snapshot:
    """May be called from any thread, while a step runs: then a count may be one step ahead of another."""
    scheduler, metrics = engine.scheduler, engine.metrics
    running = {request.seq.request_id for request in list(scheduler.running)}
    return Snapshot(
        num_queued=engine.backlog.num_requests,
        num_queued_tokens=engine.backlog.num_tokens,
        num_running=len(running),
        num_waiting=len(scheduler.waiting),
        occupancy=scheduler.cache.occupancy,
        num_steps=metrics.num_steps,
        num_windows=metrics.num_windows,
        num_positions=metrics.num_positions,
        num_tokens=metrics.num_tokens,
        num_preemptions=scheduler.num_preemptions,
        num_prefix_hits=scheduler.num_prefix_hits,
        num_prefix_tokens=scheduler.num_prefix_tokens,
        num_drafted=metrics.num_drafted,
        num_accepted=metrics.num_accepted,
        drafts=dict(metrics.drafts),
        accepted=dict(metrics.accepted),
        draft_seconds=metrics.draft_seconds,
        plain_seconds=metrics.plain_seconds,
        decode_seconds=metrics.decode_seconds,
        finished=dict(metrics.finished),
        time_to_first_token=_copy(metrics.time_to_first_token),
        time_per_token=_copy(metrics.time_per_token),
        requests=tuple(_state(engine, request, running) for request in engine.requests),
    )


def _state(engine: Engine, request: Request, running: set[int]) -> RequestState:
    seq = request.seq
    return RequestState(
        seq.request_id,
        request.tenant,
        request.priority,
        "running" if seq.request_id in running else _waiting_state(seq),
        seq.prompt_length,
        engine.scheduler.cache.length(seq),
        seq.emitted - seq.prompt_length,
        request.deadline,
    )


def _waiting_state(seq: Sequence) -> str:
    return "queued" if seq.metrics.first_scheduled_time is None else "preempted"


def _copy(histogram: Histogram) -> Histogram:
    return Histogram(list(histogram.counts), histogram.sum)
