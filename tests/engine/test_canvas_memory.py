"""Canvases in too little memory: what cannot be is refused, what can comes to the same tokens, nothing is lost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from plait.core.config import PAGE, EngineConfig
from plait.core.errors import CapacityError, ContextLengthError, UserError
from plait.core.params import SamplingParams
from plait.core.traits import Traits
from plait.engine.build import BUDGET, assemble
from plait.kvcache.pool import Pool
from tests.fakes import (
    BLOCK_TRAITS,
    CAUSAL_TRAITS,
    FULL_TRAITS,
    LAYOUT,
    Answer,
    FakeRunner,
    drain,
    make_engine,
    step,
)

GROWING: dict[str, dict[str, Any]] = {
    "everything every time": {"open_blocks": "1"},
    "two blocks": {"open_blocks": "2"},
    "dual": {"open_blocks": "2", "reuse": "dual"},
    "vicinity": {"open_blocks": "1", "reuse": "vicinity", "look_behind": "4", "look_ahead": "2"},
}
PROMPTS = [[(7 * i + 3 * j) % 60 for j in range(20 + 9 * i)] for i in range(5)]


def params(i: int) -> SamplingParams:
    return SamplingParams(max_tokens=90, temperature=1.0, seed=i, ignore_eos=True)


def alone(i: int, traits: Traits, config: dict[str, Any]) -> list[int]:
    engine = make_engine(traits, **config)
    return drain(engine)[0].tokens if engine.add(PROMPTS[i], params(i)) == 0 else []


@pytest.mark.parametrize(
    ("kind", "traits"),  # blocks grow in one way
    [*((kind, FULL_TRAITS) for kind in GROWING), ("two blocks", BLOCK_TRAITS)],
)
def test_canvases_that_outgrow_the_memory_wait_for_each_other(kind: str, traits: Traits) -> None:
    options = {} if traits is BLOCK_TRAITS else {"block_size": "8", **GROWING[kind]}
    config = {"max_num_batched_tokens": 1024, "options": options}
    # All begin, on a page or two each; at the end each of them needs five.
    engine = make_engine(traits, num_pages=9, **config)
    for i, prompt in enumerate(PROMPTS):
        engine.add(prompt, params(i))
    answers = drain(engine)
    assert engine.metrics.num_preemptions > 0
    for i, answer in answers.items():
        assert answer.error is None
        assert len(answer.tokens) == 90
        assert answer.tokens == alone(i, traits, config)


def test_a_canvas_that_can_never_fit_is_refused_and_the_others_go_on() -> None:
    config: dict[str, Any] = {"max_num_batched_tokens": 1024, "options": {"open_blocks": "1"}}
    engine = make_engine(FULL_TRAITS, num_pages=4, **config)
    key = engine.add(PROMPTS[0], params(0))
    answers: dict[int, Answer] = {}
    step(engine, answers)
    with pytest.raises(ContextLengthError, match=f"context of {4 * PAGE}") as refusal:
        engine.add(PROMPTS[1], SamplingParams(max_tokens=4 * PAGE))
    assert "fewer tokens" in refusal.value.hint
    with pytest.raises(CapacityError, match="KV cache") as refusal:
        engine.add(
            PROMPTS[0], SamplingParams(max_tokens=80), options={"guidance": "1", "open_blocks": "1"}
        )
    assert "kv_memory" in refusal.value.hint
    assert drain(engine, answers)[key].tokens == alone(0, FULL_TRAITS, config)


def test_without_max_tokens_a_canvas_grows_as_it_is_decided() -> None:
    engine = make_engine(FULL_TRAITS, options={"block_size": "8"})
    engine.add(PROMPTS[0], SamplingParams(max_tokens=None, temperature=1.0, seed=3))
    (request,) = engine.requests
    assert request.seq.length == len(PROMPTS[0]) + 4 * 8
    grown = make_engine(FULL_TRAITS, options={"block_size": "8", "open_blocks": "4"})
    grown.add(PROMPTS[0], SamplingParams(max_tokens=BUDGET - 20, temperature=1.0, seed=3))
    assert drain(engine)[0].tokens == drain(grown)[0].tokens


def budget_of(traits: Traits, most: int, **config: Any) -> tuple[int, int]:
    """(positions of a step, context)."""
    pool = Pool(LAYOUT, 256)
    settings = EngineConfig("fake", **config)
    engine = assemble(settings, FakeRunner(pool, traits), traits, pool, most_positions=most)
    return engine.scheduler.max_num_batched_tokens, engine.traits.context_length


def test_a_step_feeds_a_whole_canvas_as_far_as_memory_goes() -> None:
    assert budget_of(FULL_TRAITS, 10_000) == (4096, 4096)
    assert budget_of(FULL_TRAITS, 3000) == (3000, 3000)
    assert budget_of(FULL_TRAITS, 10) == (BUDGET, BUDGET)
    assert budget_of(replace(FULL_TRAITS, context_length=100), 10_000) == (BUDGET, 100)
    assert budget_of(FULL_TRAITS, 10_000, max_num_batched_tokens=700) == (700, 700)
    assert budget_of(CAUSAL_TRAITS, 10_000) == (BUDGET, 4096)
    assert budget_of(BLOCK_TRAITS, 10_000) == (BUDGET, 4096)
    with pytest.raises(UserError, match="max_num_batched_tokens"):
        EngineConfig(max_num_batched_tokens=-1)
