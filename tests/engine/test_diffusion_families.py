"""The oracles of masked and block diffusion for every family, each with its own graph and traits."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from plait.core.config import EngineConfig
from plait.core.errors import UserError
from plait.core.params import SamplingParams
from plait.core.step import Runner
from plait.core.traits import Predicts
from plait.engine.build import assemble
from plait.engine.engine import Engine
from plait.kernels.plan import Pool as Threads
from plait.kvcache.pool import KVLayout, Pool
from plait.models.choose import model_for, trace
from plait.runner.native import NativeRunner
from plait.runner.reference import ReferenceRunner
from tests.fakes import Answer, drain, step
from tests.models import independent, independent_diffusion
from tests.synthetic import CONFIGS, checkpoint

FULL = {"dream": "auto", "llada": "auto", "llada-moe": "auto", "trimode, canvas": "canvas"}
BLOCKS = {"sdar": "auto", "fast-dllm": "auto", "llada2": "auto", "trimode, block": "block"}
FAMILIES = {**FULL, **BLOCKS}
"""Family -> the planner that it is loaded for."""
PATHS = [("f32", "f32", "f32"), ("int8", "f16", "q8_0")]
MASK = 95
Path = tuple[str, str, str]
Requests = list[tuple[list[int], SamplingParams]]


def make_engine(
    family: str, path: Path = PATHS[0], *, executor: str = "native", threads: int = 2, **config: Any
) -> Engine:
    """In blocks of 8 where a canvas is decided, else in those of the model (4)."""
    activations, kv, matrix_format = path
    own = CONFIGS[family.partition(",")[0]]
    model = model_for("safetensors", own)
    weights = checkpoint(own, matrix_format=matrix_format)
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
    blocks = {"block_size": "8"} if family in FULL else {}
    config = {"planner": FAMILIES[family], **config}
    config["options"] = {**blocks, **config.get("options", {})}
    settings = EngineConfig("synthetic", max_num_batched_tokens=2048, **config)
    return assemble(settings, runner, model.traits(), pool)


def requests() -> Requests:
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
def alone(family: str, path: Path = PATHS[0]) -> list[list[int]]:
    return run(make_engine(family, path, threads=1), each=True)


def decided(family: str, decoder: str, **options: str) -> list[list[int]]:
    return run(make_engine(family, decoder=decoder, options=options))


@pytest.mark.parametrize("path", PATHS, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_is_its_requests_alone(family: str, path: Path) -> None:
    assert run(make_engine(family, path)) == alone(family, path)
    assert len(set(map(tuple, alone(family, path)))) == len(requests())


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


@pytest.mark.parametrize("path", PATHS, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_cached_is_recomputed(family: str, path: Path) -> None:
    """Keeping nothing computes the whole canvas in every step, behind the mask of the blocks where there are any."""
    assert run(make_engine(family, path, cache="none")) == alone(family, path)
    assert run(make_engine(family, path, cache="paged")) == alone(family, path)


@pytest.mark.parametrize("family", FULL)
def test_a_refresh_in_every_step_is_no_reuse(family: str) -> None:
    for options in (
        {"reuse": "prefix", "refresh_every": "1"},
        {"reuse": "dual", "refresh_every": "1"},
        {"reuse": "vicinity", "refresh_every": "1"},
    ):
        assert run(make_engine(family, options=options)) == alone(family), options
    assert run(make_engine(family, options={"reuse": "dual"})) != alone(family)


@pytest.mark.parametrize("family", FULL)
def test_vicinity_that_sees_everything_is_no_reuse(family: str) -> None:
    options = {"reuse": "vicinity", "look_behind": "999", "look_ahead": "999"}
    assert run(make_engine(family, options=options)) == alone(family)
    near = {"reuse": "vicinity", "look_behind": "1", "look_ahead": "1"}
    assert run(make_engine(family, options=near)) != alone(family)


@pytest.mark.parametrize("family", FULL)
def test_a_stretch_that_is_filled_in_at_the_end_is_a_continuation(family: str) -> None:
    """Whatever stands there, the mask token included."""
    engine = make_engine(family)
    ids = []
    for i, (prompt, params) in enumerate(requests()):
        there = [MASK, 5] * 10 if i % 2 else list(range(20))
        span = (len(prompt), len(prompt) + 20)
        ids.append(engine.add(prompt + there, replace(params, max_tokens=None, infill=[span])))
    answers = drain(engine)
    assert [answers[i].tokens for i in ids] == alone(family)


@pytest.mark.parametrize("family", BLOCKS)
def test_a_merged_commit_is_a_separate_one(family: str) -> None:
    engine = make_engine(family, options={"merge": "false"})
    assert run(engine) == alone(family)
    merged = make_engine(family)
    run(merged)
    assert engine.metrics.num_windows > merged.metrics.num_windows


@pytest.mark.parametrize("family", FAMILIES)
def test_a_threshold_above_1_is_a_token_per_step(family: str) -> None:
    one = decided(family, "threshold", threshold="1.5")
    assert decided(family, "fixed_steps") == one
    assert decided(family, "factor", factor="0") == one
    assert decided(family, "hierarchical", threshold="1.5", low_threshold="2") == one
    assert decided(family, "threshold", threshold="0.05") != one


@pytest.mark.parametrize("family", FAMILIES)
def test_credit_without_strength_is_what_it_wraps(family: str) -> None:
    plain = decided(family, "threshold", threshold="0.1")
    assert decided(family, "credit(threshold)", threshold="0.1", strength="0") == plain
    assert decided(family, "credit(threshold)", threshold="0.1", strength="3") != plain


@pytest.mark.parametrize("family", FAMILIES)
def test_smoothing_without_weight_is_none(family: str) -> None:
    """1e-30 goes all the way through the mixing and adds nothing."""
    assert run(make_engine(family, options={"smoothing": "1e-30"})) == alone(family)
    assert run(make_engine(family, options={"smoothing": "0.3"})) != alone(family)


def causal_logits(family: str, x: np.ndarray) -> np.ndarray:
    """[n, vocabulary] of the independent model in blocks of one position, float64."""
    config = {**CONFIGS[family.partition(",")[0]], "block_size": 1, "bd_size": 1}
    get = checkpoint(CONFIGS[family.partition(",")[0]]).dequantized
    model = independent if config.get("architectures") is None else independent_diffusion
    return np.asarray(model.logits(config, get, x))


@pytest.mark.parametrize("family", BLOCKS)
def test_blocks_of_1_are_left_to_right(family: str) -> None:
    engine = make_engine(family, options={"block_size": "1"})
    is_next = engine.traits.predicts is Predicts.NEXT
    prompt = requests()[1][0]
    key = engine.add(prompt, SamplingParams(temperature=0.0, max_tokens=16, ignore_eos=True))
    canvas = list(prompt)
    for _ in range(16):
        row = causal_logits(family, np.array(canvas if is_next else [*canvas, MASK]))[-1]
        canvas.append(int(row[:MASK].argmax()))
    assert drain(engine)[key].tokens == canvas[len(prompt) :]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_literal_mask_id_in_the_prompt_survives(family: str) -> None:
    """It is fed as what it is, never decided, and other tokens in its place give another answer."""
    params = SamplingParams(temperature=0.0, max_tokens=20, ignore_eos=True)
    answers = []
    for middle in (MASK, 5):
        prompt = [middle, 3, middle, middle, 9, 4, middle]
        engine = make_engine(family)
        key = engine.add(prompt, params)
        seq = engine._requests[key].seq
        answers.append(drain(engine)[key].tokens)
        assert seq.tokens[:7].tolist() == prompt
        assert len(answers[-1]) == 20
        assert MASK not in answers[-1]
    assert answers[0] != answers[1]


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_leaks_from_one_request_to_the_next(family: str) -> None:
    """In pages, parts and memory that others left, some of them cut short."""
    config = {"decoder": "credit(threshold)", "options": {"smoothing": "0.3", "threshold": "0.1"}}
    fresh = run(make_engine(family, **config))
    engine = make_engine(family, **config)
    for _ in range(2):
        ids = [engine.add([9] * (20 + i), SamplingParams(max_tokens=24)) for i in range(6)]
        for _ in range(3):
            engine.step()
        for key in ids[::2]:
            engine.cancel(key)
        drain(engine)
        assert run(engine, each=True) == fresh


@pytest.mark.parametrize("family", FAMILIES)
def test_the_reference_executor_gives_the_same_answers(family: str) -> None:
    assert run(make_engine(family, executor="reference")) == alone(family)


@pytest.mark.parametrize("family", FULL)
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
