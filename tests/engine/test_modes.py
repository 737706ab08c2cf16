"""Requests in different modes of the same weights beside each other: each is what it is alone, in an engine of its mode."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from plait.core.errors import ContextLengthError, UserError
from plait.core.params import SamplingParams
from plait.core.traits import Mode, Predicts
from plait.core.window import FULL, block
from plait.engine.engine import Engine
from plait.engine.worker import Worker
from plait.programs.likelihood import likelihood
from tests.engine import test_native
from tests.engine.test_diffusion import outcome
from tests.fakes import CAUSAL_TRAITS, MASK, Answer, drain, make_engine, step

MODES = (Mode(Predicts.SAME, block(8)), Mode(Predicts.SAME, FULL))
THREE = replace(CAUSAL_TRAITS, mask_token=MASK, modes=MODES)
PLANNERS = ("autoregressive", "speculative", "block", "canvas")
BUDGET = 1024


def fake(planner: str, **config: Any) -> Engine:
    return make_engine(THREE, planner=planner, max_num_batched_tokens=BUDGET, **config)


def native(planner: str, **config: Any) -> Engine:
    path = test_native.PATHS[1]
    return test_native.make_engine(
        "trimode", path, planner=planner, max_num_batched_tokens=BUDGET, **config
    )


def cases() -> list[tuple[str, list[int], SamplingParams]]:
    """Every mode several times; two of three prompts begin alike, for a page and more."""
    common = [(7 * i + 3) % 60 for i in range(70)]
    found = []
    for i in range(12):
        own = [(5 * i + j) % 60 for j in range(9 * i % 31 + 1)]
        prompt = own if i % 3 == 2 else common + own
        params = SamplingParams(temperature=i % 2, max_tokens=24, seed=i, ignore_eos=True)
        found.append((PLANNERS[i % 4], prompt, params))
    return found


@pytest.mark.parametrize("make", [fake, native])
@pytest.mark.parametrize("own", PLANNERS)
def test_modes_share_a_batch(make: Any, own: str) -> None:
    """own: that the engine was made for. Twice, so that prefixes are found where they are kept; with preemptions."""
    alone = []
    for planner, prompt, params in cases():
        engine = make(planner, enable_prefix_caching=False)
        key = engine.add(prompt, params)
        alone.append(outcome(drain(engine)[key]))
    engine = make(own)
    rng = np.random.default_rng(0)
    for _ in range(2):
        answers: dict[int, Answer] = {}
        ids = [engine.add(prompt, params, planner=planner) for planner, prompt, params in cases()]
        while engine.has_work:
            step(engine, answers)
            if rng.random() < 0.2:
                engine.preempt(int(rng.choice(ids)))
        assert [outcome(answers[i]) for i in ids] == alone
    assert engine.metrics.num_preemptions > 2
    assert (engine.metrics.num_cached_tokens > 64) == (own != "canvas")
    engine.scheduler.cache.check()


def test_a_canvas_in_an_engine_of_another_mode_fits_into_a_step() -> None:
    engine = make_engine(THREE, max_num_batched_tokens=64)
    asked = SamplingParams(max_tokens=24, temperature=0.0, ignore_eos=True)
    with pytest.raises(ContextLengthError, match="context of 64") as refusal:
        engine.add([3] * 41, asked, planner="canvas")
    assert "max_num_batched_tokens" in refusal.value.hint
    with pytest.raises(ContextLengthError, match="context of 64"):
        engine.add([3] * 64, SamplingParams(max_tokens=None), planner="canvas")
    filled = SamplingParams(infill=[(1, 3)])
    with pytest.raises(UserError, match="64"):
        engine.add([3] * 65, filled, planner="canvas")
    full = engine.add([3] * 40, asked, planner="canvas")
    grown = engine.add([3] * 20, replace(asked, max_tokens=None), planner="canvas")
    long = engine.add([3] * 200, asked)
    answers = drain(engine)
    assert [len(answers[i].tokens) for i in (full, grown, long)] == [24, 44, 24]


@pytest.mark.parametrize("own", PLANNERS)
def test_a_masked_likelihood_can_be_asked_of_any_mode(own: str) -> None:
    """Blocks are given one after the other by a model of blocks, else the whole canvas."""
    answer = [9, 6, 7]
    worker, alone = Worker(fake(own)), Worker(fake("block" if own == "block" else "canvas"))
    try:
        assert likelihood(worker, [3, 1], answer) == likelihood(alone, [3, 1], answer)
    finally:
        worker.shutdown()
        alone.shutdown()


def test_a_model_of_one_mode_refuses_the_planners_of_others() -> None:
    for planner in ("block", "canvas"):
        with pytest.raises(UserError, match="planner: this model"):
            make_engine(CAUSAL_TRAITS).add([1, 2], SamplingParams(), planner=planner)
