"""What drafting gains: the same requests with and without it, taking turns, in one engine."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence as Listing
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

import numpy as np

from plait.analysis.curve import percentile
from plait.core.params import SamplingParams
from plait.core.window import Ints
from plait.engine.engine import Engine

PLAIN = "none"
MADE_OF = 8
"""Different tokens in text that repeats itself without ever being right."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Prompts of one kind, each int32 [n]. sampling: parameters of its requests; greedy without."""

    name: str
    prompts: tuple[Ints, ...]
    sampling: dict[str, Any] = field(default_factory=lambda: {"temperature": 0.0})


@dataclass(frozen=True, slots=True)
class Gain:
    """Of one workload with one proposer. tokens_per_forward: without the prompt's forwards. accepted: share of the
    drafted tokens that were right, by place in the draft. seconds, plain_seconds: from the first token of the last
    request to the end of all, medians of the rounds for each prompt, summed. expected_gain: what the planner promised.
    draft_share: of the time, what drafting and deciding on it took; draft_median, draft_p99: seconds of one draft.
    is_equal: whether the answers are those of plain decoding."""

    workload: str
    proposer: str
    batch: int
    tokens_per_forward: float
    accepted: tuple[float, ...]
    drafted_per_token: float
    seconds: float
    plain_seconds: float
    expected_gain: float
    draft_share: float
    draft_median: float
    draft_p99: float
    is_equal: bool

    @property
    def speedup(self) -> float:
        """How many times as fast as plain decoding."""
        return self.plain_seconds / self.seconds

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"speedup": self.speedup}


@dataclass(slots=True)
class _Run:
    """One group of prompts, once. forwards, written: of requests after their first token. expected: seconds, plain
    decoding's and its own."""

    seconds: float
    tokens: list[list[int]]
    forwards: int
    written: int
    drafts: Counter[int]
    accepted: Counter[int]
    draft_times: list[float]
    expected: tuple[float, float]


def measure(
    engine: Engine,
    workload: Workload,
    proposers: Listing[str],
    *,
    tokens: int,
    batch: int = 1,
    rounds: int = 3,
) -> list[Gain]:
    """One gain per proposer. The engine must be idle; end tokens are ignored.

    For each group of `batch` prompts all ways take turns, each round another one first.
    """
    ways = [PLAIN, *proposers]
    groups = range(0, len(workload.prompts), batch)
    runs: dict[tuple[str, int], list[_Run]] = {(way, first): [] for way in ways for first in groups}
    for first in groups:
        prompts = workload.prompts[first : first + batch]
        for turn in range(rounds):
            place = turn % len(ways)
            for way in ways[place:] + ways[:place]:
                params = SamplingParams(
                    max_tokens=tokens, ignore_eos=True, seed=first, **workload.sampling
                )
                runs[way, first].append(_run(engine, prompts, way, params))
    by_way = {way: [runs[way, first] for first in groups] for way in ways}
    return [_gain(workload.name, way, batch, by_way[way], by_way[PLAIN]) for way in proposers]


def _gain(
    workload: str, way: str, batch: int, own: list[list[_Run]], plain: list[list[_Run]]
) -> Gain:
    runs = [run for group in own for run in group]
    written = sum(run.written for run in runs)
    drafts, accepted = (
        sum((getattr(run, name) for run in runs), Counter[int]()) for name in ("drafts", "accepted")
    )
    times = [seconds for run in runs for seconds in run.draft_times] or [0.0]
    plain_expected, expected = (sum(run.expected[i] for run in runs) for i in (0, 1))
    return Gain(
        workload,
        way,
        batch,
        written / max(1, sum(run.forwards for run in runs)),
        tuple(accepted[place] / drafts[place] for place in sorted(drafts)),
        sum(drafts.values()) / max(1, written),
        _seconds(own),
        _seconds(plain),
        plain_expected / expected if expected else 1.0,
        sum(times) / sum(run.seconds for run in runs),
        median(times),
        percentile(times, 99),
        all(
            run.tokens == group[0].tokens
            for group, mine in zip(plain, own, strict=True)
            for run in mine
        ),
    )


def _seconds(groups: list[list[_Run]]) -> float:
    return sum(median(run.seconds for run in group) for group in groups)


def _run(engine: Engine, prompts: Listing[Ints], proposer: str, params: SamplingParams) -> _Run:
    """The prompts at once."""
    engine.scheduler.company.draft_times.clear()
    ids = [engine.add(prompt, params, proposer=proposer) for prompt in prompts]
    times = [request.seq.metrics for request in engine.requests]
    found, seconds, forwards = _finish(engine, ids)
    return _Run(
        seconds,
        found,
        forwards,
        sum(len(answer) - 1 for answer in found),
        sum((own.drafts for own in times), Counter[int]()),
        sum((own.accepted for own in times), Counter[int]()),
        list(engine.scheduler.company.draft_times),
        (
            sum(own.expected_plain_seconds for own in times),
            sum(own.expected_seconds for own in times),
        ),
    )


def _finish(engine: Engine, ids: list[int]) -> tuple[list[list[int]], float, int]:
    """Answers, seconds after everybody has a token, and forwards of requests after their first token."""
    found: dict[int, list[int]] = {key: [] for key in ids}
    begin, forwards = time.perf_counter(), 0
    while engine.has_work:
        events = engine.step()
        waited = any(not answer for answer in found.values())
        for event in events:
            forwards += bool(found[event.request_id])
            found[event.request_id] += event.token_ids
        if waited and all(found.values()):
            begin = time.perf_counter()
    return list(found.values()), time.perf_counter() - begin, forwards


def random_workload(vocab_size: int, count: int, length: int) -> Workload:
    """Prompts that nothing can be learned from, and answers that are as random: sampled very hot."""
    rng = np.random.default_rng(7)
    prompts = (rng.integers(0, vocab_size, length).astype(np.int32) for _ in range(count))
    return Workload("random", tuple(prompts), {"temperature": 2.0})


def trap_workload(vocab_size: int, count: int, length: int) -> Workload:
    """Random text of a few tokens: what stood before is always found again and hardly ever followed by the same."""
    rng = np.random.default_rng(8)
    few = rng.choice(vocab_size, MADE_OF, replace=False).astype(np.int32)
    bias = {int(token): 100.0 for token in few}
    prompts = (few[rng.integers(0, MADE_OF, length)] for _ in range(count))
    return Workload("trap", tuple(prompts), {"temperature": 5.0, "logit_bias": bias})
