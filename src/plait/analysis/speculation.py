"""What drafting gains: the same requests with and without it, taking turns, in one engine."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterable
from collections.abc import Sequence as Listing
from dataclasses import asdict, dataclass, field, replace
from itertools import zip_longest
from statistics import median
from typing import Any, NamedTuple

from plait.analysis.curve import percentile
from plait.core.params import SamplingParams
from plait.core.window import Ints
from plait.engine.engine import Engine


@dataclass(frozen=True, slots=True)
class Workload:
    """Prompts of one kind, each int32 [n]. sampling: parameters of its requests; greedy without."""

    name: str
    prompts: tuple[Ints, ...]
    sampling: dict[str, Any] = field(default_factory=lambda: {"temperature": 0.0})

    @property
    def hash(self) -> str:
        """Of the prompts and of how they are answered."""
        digest = hashlib.sha256(repr(self.sampling).encode())
        for prompt in self.prompts:
            digest.update(prompt.tobytes() + b"|")
        return digest.hexdigest()[:16]


class Way(NamedTuple):
    """proposer: of the requests. width: tokens drafted each time, 0: as many as it finds to pay."""

    proposer: str
    width: int = 0

    @property
    def name(self) -> str:
        return f"{self.proposer} {self.width}" if self.width else self.proposer


PLAIN = Way("none")


@dataclass(frozen=True, slots=True)
class Run:
    """One group of prompts at once, one way, in one round.

    group: number of its first prompt. seconds: from submission to the end of all.
    answers: hash of the tokens. forwards, written: of requests. drafts, accepted: drafted
    tokens and those that were right, by place in the draft. draft_seconds: that drafting and deciding on it took in
    all; draft_median, draft_p99: of one draft. expected: seconds of its own, expected_plain: of plain decoding, as the planner promised.
    """

    workload: str
    batch: int
    group: int
    turn: int
    way: str
    seconds: float
    answers: str
    forwards: int
    written: int
    drafts: list[int]
    accepted: list[int]
    draft_seconds: float
    draft_median: float
    draft_p99: float
    expected: float
    expected_plain: float

    @property
    def round(self) -> tuple[str, int, int, int]:
        """Which of the rounds it belongs to."""
        return self.workload, self.batch, self.group, self.turn


@dataclass(frozen=True, slots=True)
class Gain:
    """Of one workload in one way. rounds: of the prompt that had fewest. tokens_per_forward: without the prompt's
    forwards. accepted: share of the drafted tokens that were right, by place in the draft. seconds, plain_seconds:
    medians of the rounds for each group of prompts, summed. expected_gain: what the planner promised. draft_share: of
    the time, what drafting and deciding on it took; draft_median, draft_p99: seconds of one draft, medians of the runs.
    is_equal: whether the answers are those of plain decoding."""

    workload: str
    way: str
    batch: int
    rounds: int
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


def measure(
    engine: Engine,
    workload: Workload,
    ways: Listing[Way],
    *,
    tokens: int,
    batch: int,
    group: int,
    turn: int,
) -> list[Run]:
    """One round of a group of prompts, from number `group` on: plain decoding and all ways, each round another one
    first, behind prompts that were read before. The engine must be idle; end tokens are ignored."""
    prompts = workload.prompts[group : group + batch]
    params = SamplingParams(max_tokens=tokens, ignore_eos=True, seed=group, **workload.sampling)
    # Prompts that have to be computed are, step by step, while others decode already: so whoever went first had less to do.
    _run(engine, prompts, PLAIN, replace(params, max_tokens=1))
    every = [PLAIN, *ways]
    place = turn % len(every)
    runs = []
    for way in every[place:] + every[:place]:
        found = _run(engine, prompts, way, params)
        runs.append(Run(workload.name, batch, group, turn, way.name, *found))
    return runs


def gains(runs: Iterable[Run]) -> list[Gain]:
    """One for each workload, batch and way but plain decoding, in the order of the runs."""
    kinds: dict[tuple[str, int], dict[str, dict[int, list[Run]]]] = {}
    for run in runs:
        ways = kinds.setdefault((run.workload, run.batch), {})
        ways.setdefault(run.way, {}).setdefault(run.group, []).append(run)
    return [
        _gain(groups, ways[PLAIN.name])
        for ways in kinds.values()
        for way, groups in ways.items()
        if way != PLAIN.name
    ]


def _gain(own: dict[int, list[Run]], plain: dict[int, list[Run]]) -> Gain:
    runs = [run for group in own.values() for run in group]
    written = sum(run.written for run in runs)
    drafts, accepted = (
        _summed(getattr(run, name) for run in runs) for name in ("drafts", "accepted")
    )
    plain_expected, expected = (
        sum(run.expected_plain for run in runs),
        sum(run.expected for run in runs),
    )
    return Gain(
        runs[0].workload,
        runs[0].way,
        runs[0].batch,
        min(len(group) for group in own.values()),
        written / max(1, sum(run.forwards for run in runs)),
        tuple(right / count for right, count in zip(accepted, drafts, strict=True)),
        sum(drafts) / max(1, written),
        _seconds(own),
        _seconds(plain),
        plain_expected / expected if expected else 1.0,
        sum(run.draft_seconds for run in runs) / sum(run.seconds for run in runs),
        median(run.draft_median for run in runs),
        median(run.draft_p99 for run in runs),
        all(run.answers == plain[run.group][0].answers for run in runs),
    )


def _summed(lists: Iterable[list[int]]) -> list[int]:
    return [sum(numbers) for numbers in zip_longest(*lists, fillvalue=0)]


def _seconds(groups: dict[int, list[Run]]) -> float:
    return sum(median(run.seconds for run in group) for group in groups.values())


def _run(
    engine: Engine, prompts: Listing[Ints], way: Way, params: SamplingParams
) -> tuple[Any, ...]:
    """The fields of a Run from `seconds` on; the prompts at once."""
    company = engine.scheduler.company
    company.draft_times.clear()
    options = {"width": str(way.width)} if way.width else None
    ids = [engine.add(prompt, params, proposer=way.proposer, options=options) for prompt in prompts]
    times = [request.seq.metrics for request in engine.requests]
    found, seconds, forwards = _finish(engine, ids)
    drafts = sum((own.drafts for own in times), Counter[int]())
    accepted = sum((own.accepted for own in times), Counter[int]())
    took = list(company.draft_times) or [0.0]
    return (
        seconds,
        hashlib.sha256(repr(found).encode()).hexdigest()[:16],
        forwards,
        sum(map(len, found)),
        [drafts[place] for place in sorted(drafts)],
        [accepted[place] for place in sorted(drafts)],
        sum(took),
        median(took),
        percentile(took, 99),
        sum(own.expected_seconds for own in times),
        sum(own.expected_plain_seconds for own in times),
    )


def _finish(engine: Engine, ids: list[int]) -> tuple[list[list[int]], float, int]:
    """Answers, seconds in all, and forwards of requests that gave tokens.

    From the beginning, for a draft model reads the prompt before its first draft."""
    found: dict[int, list[int]] = {key: [] for key in ids}
    begin, forwards = time.perf_counter(), 0
    while engine.has_work:
        for event in engine.step():
            forwards += bool(event.token_ids)
            found[event.request_id] += event.token_ids
    return list(found.values()), time.perf_counter() - begin, forwards


class Choice(NamedTuple):
    """What the automatic way came to beside the best of all that were measured, plain decoding included (1.0)."""

    workload: str
    batch: int
    automatic: float
    best: str
    speedup: float

    @property
    def share(self) -> float:
        """Of the best one's speed."""
        return self.automatic / self.speedup

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return self._asdict() | {"share": self.share}


def choices(found: Listing[Gain], automatic: str) -> list[Choice]:
    """One for each workload and batch."""
    kinds = dict.fromkeys((gain.workload, gain.batch) for gain in found)
    made = []
    for kind in kinds:
        speedups = {g.way: g.speedup for g in found if (g.workload, g.batch) == kind}
        own = speedups.pop(automatic)
        others = {"none": 1.0, **speedups}
        best = max(others, key=lambda way: others[way])
        made.append(Choice(*kind, own, best, others[best]))
    return made
