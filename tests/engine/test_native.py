"""The same equalities over the native runner: small random models of three families, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from plait.core.config import EngineConfig
from plait.core.params import SamplingParams
from plait.engine.build import assemble
from plait.engine.engine import Engine
from plait.kernels.plan import Pool as Threads
from plait.kvcache.pool import KVLayout, Pool
from plait.models.choose import model_for, trace
from plait.runner.native import NativeRunner
from plait.runner.reference import ReferenceRunner
from tests.fakes import Answer, drain, step
from tests.synthetic import CONFIGS, checkpoint

MODELS = ["llama", "gemma3", "sdar", "fast-dllm", "llada2"]
PATHS = [("f32", "f32", "f32"), ("int8", "f16", "q8_0")]
VOCAB = 96


def make_engine(
    name: str, path: tuple[str, str, str], *, threads: int = 2, num_pages: int = 64, **config: Any
) -> Engine:
    activations, kv, matrix_format = path
    model = model_for("safetensors", CONFIGS[name])
    weights = checkpoint(CONFIGS[name], matrix_format=matrix_format)
    graph = trace(model, {n: weights.info(n).shape for n in weights.names()})
    shape = model.cache_shape()
    pool = Pool(KVLayout(shape.num_layers, shape.num_kv_heads, shape.head_dim, kv), num_pages)
    runner = NativeRunner(
        graph, weights, pool, activations=activations, threads=Threads(threads), isa="auto"
    )
    return assemble(EngineConfig("synthetic", **config), runner, model.traits(), pool)


def requests() -> list[tuple[list[int], SamplingParams]]:
    """16 prompts around pages, blocks and sliding windows; half greedy, half sampled."""
    rng = np.random.default_rng(0)
    lengths = [1, 2, 3, 4, 5, 17, 23, 24, 25, 31, 32, 33, 50, 64, 70, 100]
    return [
        (
            rng.integers(2, VOCAB - 1, length).tolist(),
            SamplingParams(temperature=i % 2 * 1.5, max_tokens=12, seed=i, ignore_eos=True),
        )
        for i, length in enumerate(lengths)
    ]


def run(engine: Engine) -> list[list[int]]:
    ids = [engine.add(prompt, params) for prompt, params in requests()]
    answers = drain(engine)
    return [answers[i].tokens for i in ids]


@cache
def alone(name: str, path: tuple[str, str, str]) -> list[list[int]]:
    """Each request by itself, recomputed whole in every step, on one thread."""
    engine = make_engine(name, path, threads=1, cache="none", max_num_batched_tokens=256)
    tokens = []
    for prompt, params in requests():
        key = engine.add(prompt, params)
        tokens.append(drain(engine)[key].tokens)
    return tokens


@pytest.fixture(params=[(name, path) for name in MODELS for path in PATHS], ids=str)
def case(request: pytest.FixtureRequest) -> tuple[str, tuple[str, str, str]]:
    chosen: tuple[str, tuple[str, str, str]] = request.param
    return chosen


def test_a_batch_is_its_requests_alone(case: tuple[str, tuple[str, str, str]]) -> None:
    expected = alone(*case)
    assert len({tuple(tokens) for tokens in expected}) > 12
    assert run(make_engine(*case)) == expected


@pytest.mark.parametrize("budget", [7, 32])
def test_chunks_are_whole_prompts(case: tuple[str, tuple[str, str, str]], budget: int) -> None:
    assert run(make_engine(*case, max_num_batched_tokens=budget)) == alone(*case)


def kv_paths() -> list[tuple[str, str, str]]:
    return [*PATHS, ("int8", "int8", "q8_0"), ("f32", "f16", "f32")]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("path", kv_paths(), ids=str)
def test_prompts_that_were_cached_are_answered_alike(name: str, path: tuple[str, str, str]) -> None:
    """Twice the same, and what the first time was an answer is the second time a prompt as well."""
    cold = make_engine(name, path, enable_prefix_caching=False)
    expected = run(cold)
    engine = make_engine(name, path, num_pages=200, max_num_batched_tokens=40)
    assert run(engine) == expected
    found = engine.metrics.num_cached_tokens
    assert run(engine) == expected
    assert engine.metrics.num_cached_tokens > found + 300
    for (prompt, params), tokens in zip(requests()[-4:], expected[-4:], strict=True):
        longer = prompt + tokens
        keys = engine.add(longer, params), cold.add(longer, params)
        assert drain(engine)[keys[0]].tokens == drain(cold)[keys[1]].tokens


def test_preempted_and_resumed_is_uninterrupted(case: tuple[str, tuple[str, str, str]]) -> None:
    engine = make_engine(*case, num_pages=20)
    ids = [engine.add(prompt, params) for prompt, params in requests()]
    rng = np.random.default_rng(1)
    answers: dict[int, Answer] = {}
    for _ in range(12):
        step(engine, answers)
        engine.preempt(int(rng.choice(ids)))
    drain(engine, answers)
    assert engine.metrics.num_preemptions >= 3
    assert [answers[i].tokens for i in ids] == alone(*case)


def test_a_fork_with_its_parents_seed_goes_on_like_it(
    case: tuple[str, tuple[str, str, str]],
) -> None:
    engine = make_engine(*case)
    prompt, params = requests()[13]
    parent = engine.add(prompt, replace(params, max_tokens=30))
    answers: dict[int, Answer] = {}
    for _ in range(4):
        step(engine, answers)
    before = list(answers[parent].tokens) if parent in answers else []
    child = engine.fork(parent, params.seed or 0)
    drain(engine, answers)
    assert before + answers[child].tokens == answers[parent].tokens


def test_choices_are_what_they_are_without_each_other(
    case: tuple[str, tuple[str, str, str]],
) -> None:
    prompt, params = requests()[15]
    many = replace(params, n=3)
    together = make_engine(*case)
    first = together.add(prompt, many)
    shared = drain(together)
    apart = make_engine(*case, max_num_seqs=1)
    again = apart.add(prompt, many)
    recomputed = drain(apart)
    for i in range(3):
        assert shared[first + i].tokens == recomputed[again + i].tokens


@pytest.mark.parametrize("name", MODELS)
def test_the_reference_executor_gives_the_same_greedy_answer(name: str) -> None:
    native = make_engine(name, PATHS[0])
    model = model_for("safetensors", CONFIGS[name])
    weights = checkpoint(CONFIGS[name], matrix_format="f32")
    graph = trace(model, {n: weights.info(n).shape for n in weights.names()})
    pool = Pool(native.scheduler.cache.pool.layout, 64)
    runner = ReferenceRunner(graph, weights, pool, activations="f32")
    oracle = assemble(EngineConfig("synthetic"), runner, model.traits(), pool)
    for prompt, params in requests()[::4]:
        tokens = []
        for engine in (native, oracle):
            key = engine.add(prompt, params)
            tokens.append(drain(engine)[key].tokens)
        assert tokens[0] == tokens[1]
