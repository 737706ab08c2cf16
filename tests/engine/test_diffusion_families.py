"""The equalities of masked diffusion for every family that sees in both directions, with its own traits."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from plait.core.config import EngineConfig
from plait.core.errors import UserError
from plait.core.params import SamplingParams
from plait.core.step import Runner
from plait.engine.build import assemble
from plait.engine.engine import Engine
from plait.kernels.plan import Pool as Threads
from plait.kvcache.pool import KVLayout, Pool
from plait.models.choose import model_for, trace
from plait.runner.native import NativeRunner
from plait.runner.reference import ReferenceRunner
from tests.fakes import Answer, drain, step
from tests.models import independent_diffusion
from tests.synthetic import CONFIGS, checkpoint

FAMILIES = ["dream", "llada", "llada-moe"]
PATHS = [("f32", "f32", "f32"), ("int8", "f16", "q8_0")]
MASK = 95
Path = tuple[str, str, str]


def make_engine(
    family: str, path: Path = PATHS[0], *, executor: str = "native", threads: int = 2, **config: Any
) -> Engine:
    activations, kv, matrix_format = path
    model = model_for("safetensors", CONFIGS[family])
    weights = checkpoint(CONFIGS[family], matrix_format=matrix_format)
    graph = trace(model, {n: weights.info(n).shape for n in weights.names()})
    shape = model.cache_shape()
    pool = Pool(KVLayout(shape.num_layers, shape.num_kv_heads, shape.head_dim, kv), 64)
    runner: Runner
    if executor == "native":
        runner = NativeRunner(
            graph, weights, pool, activations=activations, threads=Threads(threads)
        )
    else:
        runner = ReferenceRunner(graph, weights, pool, activations=activations)
    settings = {"block_size": "8", **config.pop("options", {})}
    own = EngineConfig("synthetic", max_num_batched_tokens=2048, options=settings, **config)
    return assemble(own, runner, model.traits(), pool)


def requests() -> list[tuple[list[int], SamplingParams]]:
    """One of the prompts holds the mask token itself."""
    rng = np.random.default_rng(0)
    prompts = [rng.integers(2, MASK, length).tolist() for length in (1, 5, 31, 33, 64)]
    prompts[2][7] = MASK
    return [
        (prompt, SamplingParams(temperature=i % 2 * 1.5, max_tokens=20, seed=i, ignore_eos=True))
        for i, prompt in enumerate(prompts)
    ]


def run(engine: Engine, *, each: bool = False) -> list[list[int]]:
    """each: one after the other, not in one batch."""
    answers: dict[int, Answer] = {}
    ids = []
    for prompt, params in requests():
        ids.append(engine.add(prompt, params))
        if each:
            drain(engine, answers)
    drain(engine, answers)
    assert all(answers[i].error is None for i in ids)
    assert all(len(answers[i].tokens) == 20 and MASK not in answers[i].tokens for i in ids)
    return [answers[i].tokens for i in ids]


@cache
def alone(family: str, path: Path) -> list[list[int]]:
    return run(make_engine(family, path, threads=1), each=True)


@pytest.mark.parametrize("path", PATHS, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_is_its_requests_alone(family: str, path: Path) -> None:
    assert run(make_engine(family, path)) == alone(family, path)


@pytest.mark.parametrize("path", PATHS, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_preempted_and_resumed_is_uninterrupted(family: str, path: Path) -> None:
    engine = make_engine(family, path)
    rng = np.random.default_rng(1)
    ids = [engine.add(prompt, params) for prompt, params in requests()]
    answers: dict[int, Answer] = {}
    while engine.has_work:
        step(engine, answers)
        engine.preempt(int(rng.choice(ids)))
    assert engine.metrics.num_preemptions > 3
    assert [answers[i].tokens for i in ids] == alone(family, path)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_refresh_in_every_step_is_no_reuse(family: str) -> None:
    for options in (
        {"reuse": "dual", "refresh_every": "1"},
        {"reuse": "vicinity", "look_behind": "999", "look_ahead": "999"},
    ):
        assert run(make_engine(family, options=options)) == alone(family, PATHS[0]), options
    assert run(make_engine(family, cache="none")) == alone(family, PATHS[0])
    assert run(make_engine(family, options={"reuse": "dual"})) != alone(family, PATHS[0])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_reference_executor_gives_the_same_answers(family: str) -> None:
    assert run(make_engine(family, executor="reference")) == alone(family, PATHS[0])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_cache_that_shares_is_refused(family: str) -> None:
    with pytest.raises(UserError, match="radix"):
        make_engine(family, cache="radix")


def llada_sampler(prompt: list[int], answer: int, block: int, steps: int) -> list[int]:
    """LLaDA's own (arXiv:2502.09992, algorithm 5), in float64 on the independent model: in every step the logits
    of everything, and the surest of the block's open positions are written. The mask token is not proposed."""
    config, weights = CONFIGS["llada"], checkpoint(CONFIGS["llada"])
    x = np.array(prompt + [MASK] * answer)
    is_open = np.arange(len(x)) >= len(prompt)
    for start in range(len(prompt), len(x), block):
        for _ in range(steps):
            logits = independent_diffusion.logits(config, weights.dequantized, x)
            logits[:, MASK] = -np.inf
            shares = np.exp(logits - logits.max(axis=1, keepdims=True))
            confidence = (shares / shares.sum(axis=1, keepdims=True)).max(axis=1)
            confidence[~is_open] = -1.0
            confidence[start + block :] = -1.0
            chosen = np.argsort(-confidence, kind="stable")[: block // steps]
            x[chosen] = logits[chosen].argmax(axis=1)
            is_open[chosen] = False
    return list(x[len(prompt) :].tolist())


@pytest.mark.parametrize("executor", ["native", "reference"])
def test_fixed_steps_are_llada_s_own_sampler(executor: str) -> None:
    engine = make_engine("llada", executor=executor, decoder="fixed_steps", options={"steps": "4"})
    rng = np.random.default_rng(3)
    for length in (5, 33):
        prompt = rng.integers(2, MASK, length).tolist()
        answers: dict[int, Answer] = {}
        request_id = engine.add(
            prompt, SamplingParams(temperature=0.0, max_tokens=24, ignore_eos=True)
        )
        drain(engine, answers)
        assert answers[request_id].tokens == llada_sampler(prompt, 24, 8, 4)
