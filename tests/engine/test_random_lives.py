"""A thousand random operations: nothing leaks, everybody ends, and nobody's tokens change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from plait.core.params import SamplingParams
from plait.core.traits import Traits
from tests.fakes import (
    BLOCK_TRAITS,
    CAUSAL_TRAITS,
    VOCAB,
    Answer,
    collect,
    drain,
    make_engine,
    step,
)


@pytest.mark.parametrize("traits", [CAUSAL_TRAITS, BLOCK_TRAITS], ids=["causal", "block"])
@pytest.mark.parametrize("cache", ["paged", "none"])
@pytest.mark.parametrize("seed", range(2))
def test_a_thousand_operations_leave_no_page_behind(traits: Traits, cache: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    engine = make_engine(
        traits, num_pages=40, max_num_seqs=6, max_num_batched_tokens=100, cache=cache
    )
    answers: dict[int, Answer] = {}
    expected: dict[int, tuple[list[int], SamplingParams]] = {}
    prefixes: dict[int, list[int]] = {}

    def add() -> None:
        prompt = rng.integers(0, VOCAB, int(rng.integers(1, 60))).tolist()
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
    for key in finished[:25]:
        calm = make_engine(traits, max_num_batched_tokens=512)
        again = calm.add(*expected[key])
        assert drain(calm)[again].tokens == answers[key].tokens
