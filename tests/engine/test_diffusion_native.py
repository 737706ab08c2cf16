"""The equalities of test_diffusion.py over a small random model that sees in both directions, on the native kernels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from plait.core.config import EngineConfig
from plait.core.params import SamplingParams
from plait.core.step import Runner
from plait.core.traits import Predicts
from plait.core.window import FULL
from plait.engine.build import assemble
from plait.engine.engine import Engine
from plait.kernels.plan import Pool as Threads
from plait.kvcache.pool import KVLayout, Pool
from plait.models.choose import model_for, trace
from plait.runner.native import NativeRunner
from plait.runner.reference import ReferenceRunner
from tests.fakes import Answer, drain, step
from tests.synthetic import CONFIGS, checkpoint

PATHS = [("f32", "f32", "f32"), ("int8", "f16", "q8_0")]
CONFIG = CONFIGS["sdar"]
MASK, VOCAB = 95, 96
SETTINGS: list[dict[str, str]] = [
    {},
    {"reuse": "dual"},
    {
        "reuse": "vicinity",
        "look_behind": "3",
        "look_ahead": "5",
        "warm_up": "2",
        "smoothing": "0.3",
    },
    {"guidance": "1.5"},
]


def make_engine(
    path: tuple[str, str, str] = PATHS[0],
    *,
    predicts: Predicts = Predicts.SAME,
    executor: str = "native",
    threads: int = 2,
    options: dict[str, str] | None = None,
    **config: Any,
) -> Engine:
    """A Qwen3 body without causal masks."""
    activations, kv, matrix_format = path
    model = model_for("safetensors", CONFIG)
    weights = checkpoint(CONFIG, matrix_format=matrix_format)
    graph = trace(model, {n: weights.info(n).shape for n in weights.names()})
    shape = model.cache_shape()
    pool = Pool(KVLayout(shape.num_layers, shape.num_kv_heads, shape.head_dim, kv), 64)
    runner: Runner = (
        NativeRunner(
            graph, weights, pool, activations=activations, threads=Threads(threads), isa="auto"
        )
        if executor == "native"
        else ReferenceRunner(graph, weights, pool, activations=activations)
    )
    traits = replace(model.traits(), pattern=FULL, predicts=predicts)
    settings = {"block_size": "8", **(options or {})}
    own = EngineConfig("synthetic", max_num_batched_tokens=2048, options=settings, **config)
    return assemble(own, runner, traits, pool)


def requests() -> list[tuple[list[int], SamplingParams]]:
    rng = np.random.default_rng(0)
    return [
        (
            rng.integers(2, MASK, length).tolist(),
            SamplingParams(temperature=i % 2 * 1.5, max_tokens=20, seed=i, ignore_eos=True),
        )
        for i, length in enumerate([1, 5, 31, 33, 64])
    ]


def run(engine: Engine, each: bool = False) -> list[list[int]]:
    """each: one after the other, not in one batch."""
    answers: dict[int, Answer] = {}
    ids = []
    for prompt, params in requests():
        ids.append(engine.add(prompt, params))
        if each:
            drain(engine, answers)
    drain(engine, answers)
    assert all(answers[i].error is None for i in ids)
    return [answers[i].tokens for i in ids]


@pytest.mark.parametrize("path", PATHS, ids=str)
@pytest.mark.parametrize("options", SETTINGS, ids=str)
def test_a_batch_is_its_requests_alone_and_preempted_ones_are_uninterrupted(
    path: tuple[str, str, str], options: dict[str, str]
) -> None:
    alone = run(make_engine(path, options=options, threads=1), each=True)
    assert run(make_engine(path, options=options)) == alone
    engine = make_engine(path, options=options)
    rng = np.random.default_rng(1)
    ids = [engine.add(prompt, params) for prompt, params in requests()]
    answers: dict[int, Answer] = {}
    while engine.has_work:
        step(engine, answers)
        engine.preempt(int(rng.choice(ids)))
    assert [answers[i].tokens for i in ids] == alone
    assert engine.metrics.num_preemptions > 3


@pytest.mark.parametrize("path", PATHS, ids=str)
@pytest.mark.parametrize("predicts", Predicts)
def test_ways_to_compute_everything_are_one(path: tuple[str, str, str], predicts: Predicts) -> None:
    whole = run(make_engine(path, predicts=predicts))
    for options in (
        {"reuse": "dual", "refresh_every": "1"},
        {"reuse": "prefix", "refresh_every": "1"},
        {"reuse": "vicinity", "look_behind": "999", "look_ahead": "999"},
        {"smoothing": "1e-30"},
        {"open_blocks": "9"},
    ):
        assert run(make_engine(path, predicts=predicts, options=options)) == whole, options
    assert run(make_engine(path, predicts=predicts, cache="none")) == whole
    assert run(make_engine(path, predicts=predicts, options={"reuse": "dual"})) != whole


@pytest.mark.parametrize("options", SETTINGS, ids=str)
def test_native_is_the_reference(options: dict[str, str]) -> None:
    theirs = run(make_engine(executor="reference", options=options))
    assert run(make_engine(options=options)) == theirs
