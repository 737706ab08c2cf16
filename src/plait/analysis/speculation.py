"""What drafting gains: the same requests with and without it, taking turns, in one engine."""

from __future__ import annotations

import time
from collections.abc import Sequence as Listing
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np

from plait.core.params import SamplingParams
from plait.core.window import Ints
from plait.engine.engine import Engine
from plait.engine.metrics import EngineMetrics


@dataclass(frozen=True, slots=True)
class Workload:
    """Prompts of one kind, each int32 [n]."""

    name: str
    prompts: tuple[Ints, ...]


@dataclass(frozen=True, slots=True)
class Gain:
    """Of one workload with one proposer. tokens_per_forward: without the prompt's forwards. accepted: share of the
    drafted tokens that were right, by place in the draft. seconds, plain_seconds: from the first token of the last
    request to the end of all, medians. is_equal: whether the answers are those of plain decoding."""

    workload: str
    proposer: str
    batch: int
    tokens_per_forward: float
    accepted: tuple[float, ...]
    drafted_per_token: float
    seconds: float
    plain_seconds: float
    is_equal: bool

    @property
    def speedup(self) -> float:
        """How many times as fast as plain decoding."""
        return self.plain_seconds / self.seconds

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"speedup": self.speedup}


@dataclass(frozen=True, slots=True)
class _Run:
    seconds: float
    tokens: list[list[int]]
    forwards: int
    metrics: EngineMetrics


def measure(
    engine: Engine,
    workload: Workload,
    proposers: Listing[str],
    *,
    tokens: int,
    batch: int = 1,
    rounds: int = 3,
) -> list[Gain]:
    """One gain per proposer. The engine must be idle; greedy, end tokens ignored."""
    samples: dict[str, list[_Run]] = {name: [] for name in ("none", *proposers)}
    for _ in range(rounds):
        for name, runs in samples.items():
            runs.append(_run(engine, workload, name, tokens, batch))
    plain = samples.pop("none")
    plain_seconds = median(run.seconds for run in plain)
    return [
        _gain(workload, name, batch, runs, plain_seconds, plain[0].tokens)
        for name, runs in samples.items()
    ]


def _gain(
    workload: Workload,
    name: str,
    batch: int,
    runs: list[_Run],
    plain_seconds: float,
    plain_tokens: list[list[int]],
) -> Gain:
    last = runs[-1]
    written = sum(len(answer) - 1 for answer in last.tokens)
    drafts, accepted = last.metrics.drafts, last.metrics.accepted
    return Gain(
        workload.name,
        name,
        batch,
        written / max(1, last.forwards),
        tuple(accepted[place] / drafts[place] for place in sorted(drafts)),
        last.metrics.num_drafted / max(1, written),
        median(run.seconds for run in runs),
        plain_seconds,
        all(run.tokens == plain_tokens for run in runs),
    )


def _run(engine: Engine, workload: Workload, proposer: str, tokens: int, batch: int) -> _Run:
    """All prompts, `batch` at a time."""
    engine.metrics = EngineMetrics()
    seconds, forwards = 0.0, 0
    answers: list[list[int]] = []
    for first in range(0, len(workload.prompts), batch):
        params = SamplingParams(temperature=0.0, max_tokens=tokens, ignore_eos=True)
        prompts = workload.prompts[first : first + batch]
        ids = [engine.add(prompt, params, proposer=proposer) for prompt in prompts]
        more, spent, steps = _finish(engine, ids)
        answers += more
        seconds += spent
        forwards += steps
    return _Run(seconds, answers, forwards, engine.metrics)


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
    """Prompts that nothing can be learned from."""
    rng = np.random.default_rng(7)
    return Workload(
        "random", tuple(rng.integers(0, vocab_size, length).astype(np.int32) for _ in range(count))
    )
