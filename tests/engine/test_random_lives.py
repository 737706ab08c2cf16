"""A thousand random operations: nothing leaks, everybody ends, and nobody's tokens change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from plait.core.params import SamplingParams
from plait.core.traits import Traits
from tests.fakes import (
    BLOCK_TRAITS,
    CAUSAL_TRAITS,
    FULL_TRAITS,
    VOCAB,
    Answer,
    collect,
    drain,
    make_engine,
    step,
)

KINDS = {"causal": CAUSAL_TRAITS, "block": BLOCK_TRAITS, "full": FULL_TRAITS}
CACHES = [(kind, cache) for kind in KINDS for cache in ("radix", "paged", "none")]
CACHES.remove(("full", "radix"))
"""Canvases that share nothing."""


@pytest.mark.parametrize(("kind", "cache"), CACHES)
@pytest.mark.parametrize("seed", range(2))
def test_a_thousand_operations_leave_no_page_behind(kind: str, cache: str, seed: int) -> None:
    _live(KINDS[kind], cache, seed, {})


@pytest.mark.parametrize("reuse", ["prefix", "dual", "vicinity"])
def test_a_thousand_operations_with_canvases_that_reuse_leave_no_page_behind(reuse: str) -> None:
    _live(FULL_TRAITS, "paged", 2, {"options": {"block_size": "8", "reuse": reuse}})


def _live(traits: Traits, cache: str, seed: int, config: dict[str, Any]) -> None:
    rng = np.random.default_rng(seed)
    is_whole = cache == "none" or traits is FULL_TRAITS
    budget = 200 if is_whole else 100  # for whole canvases
    engine = make_engine(
        traits, num_pages=40, max_num_seqs=6, max_num_batched_tokens=budget, cache=cache, **config
    )
    beginning = rng.integers(0, VOCAB, 70).tolist()
    answers: dict[int, Answer] = {}
    expected: dict[int, tuple[list[int], SamplingParams]] = {}
    prefixes: dict[int, list[int]] = {}

    def add() -> None:
        own = rng.integers(0, VOCAB, int(rng.integers(1, 60))).tolist()
        prompt = beginning[: int(rng.integers(0, 71))] + own
        params = SamplingParams(
            n=int(rng.choice([1, 1, 3])),
            max_tokens=int(rng.integers(1, 30)),
            seed=int(rng.integers(2**63)),
            temperature=float(rng.choice([0.0, 1.0])),
        )
        first = engine.add(
            prompt,
            params,
            tenant=str(rng.choice(["", "a", "b"])),
            priority=int(rng.choice([0, 0, 1])),
            deadline=float(rng.choice([1e6, 0.05])),
        )
        expected[first] = (prompt, replace(params, n=1))
        prefixes.update(dict.fromkeys(range(first, first + params.n)))  # type: ignore[arg-type]

    def alive() -> list[int]:
        return [key for key in prefixes if key not in answers or answers[key].reason is None]

    def fork() -> None:
        parent = int(rng.choice(alive()))
        child = engine.fork(parent, int(rng.integers(2**63)))
        prefixes[child] = answers[parent].tokens if parent in answers else []

    def cancel() -> None:
        event = engine.cancel(int(rng.choice(alive())))
        assert event is not None
        collect(answers, [event])

    def preempt() -> None:
        engine.preempt(int(rng.choice(alive())))

    for _ in range(1000):
        action = rng.choice(5, p=[0.1, 0.06, 0.06, 0.08, 0.7])
        if action == 0 and len(alive()) < 40:
            add()
        elif action < 4 and alive():
            (preempt, fork, cancel, preempt)[action]()
        step(engine, answers)
    drain(engine, answers)
    assert set(answers) == set(prefixes)
    assert all(answer.reason for answer in answers.values())
    finished = [key for key in expected if answers[key].reason in ("stop", "length")]
    assert len(finished) > 20
    metrics, pool = engine.metrics, engine.scheduler.cache.pool
    assert (metrics.num_cached_tokens > 500) == (cache == "radix")
    assert (metrics.num_evicted_pages > 0) == (cache == "radix")
    engine.scheduler.cache.drop()
    engine.scheduler.cache.check()
    assert (pool.idle, pool.num_free) == ([], pool.num_pages)
    for key in finished[:25]:
        calm_cache = "paged" if config else "none"  # what is reused has to be kept
        calm = make_engine(traits, cache=calm_cache, max_num_batched_tokens=512, **config)
        again = calm.add(*expected[key])
        assert drain(calm)[again].tokens == answers[key].tokens
