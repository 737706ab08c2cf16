"""The equalities, token for token, on SmolLM2: what a request gets never depends on how it was run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from plait.core.config import EngineConfig
from plait.core.params import SamplingParams
from plait.engine.build import build
from plait.engine.engine import Engine
from tests.oracle import MODELS, fixture, prompts

pytestmark = pytest.mark.timeout(900)

Request = tuple[np.ndarray, SamplingParams]
# The exact path takes two minutes; the synthetic models take both in every run.
PATHS = ["int8", pytest.param("f32", marks=pytest.mark.large)]
TOKENS = 24


def make(activations: str, **fields: object) -> Engine:
    config = EngineConfig(
        model=MODELS[0], activations=activations, max_model_len=1024, kv_memory=512 << 20
    )
    return build(replace(config, **fields)).engine  # type: ignore[arg-type]


@cache
def mixed_requests() -> list[Request]:
    """16 requests: greedy and every kind of sampling, prompts of 3 to 600 tokens."""
    ids = np.concatenate(prompts(fixture(MODELS[0])))
    base = SamplingParams(max_tokens=TOKENS, temperature=0.0, ignore_eos=True)
    kinds = [
        base,
        replace(base, temperature=0.8, seed=1),
        replace(base, temperature=1.0, top_p=0.9, seed=2),
        replace(base, temperature=1.2, top_k=40, min_p=0.02, seed=3),
        replace(base, repetition_penalty=1.3, presence_penalty=0.5, logprobs=2),
        replace(base, temperature=0.9, typical_p=0.8, frequency_penalty=0.4, seed=4),
    ]
    lengths = [3, 600, 17, 64, 5, 256, 31, 33, 120, 8, 400, 2, 90, 47, 12, 200]
    return [(ids[7 * i : 7 * i + n], kinds[i % len(kinds)]) for i, n in enumerate(lengths)]


def finish(engine: Engine, ids: list[int]) -> list[list[int]]:
    tokens: dict[int, list[int]] = {i: [] for i in ids}
    while engine.has_work:
        for event in engine.step():
            assert event.error is None
            tokens[event.request_id] += event.token_ids
    return [tokens[i] for i in ids]


def together(engine: Engine, requests: list[Request]) -> list[list[int]]:
    return finish(engine, [engine.add(prompt, params) for prompt, params in requests])


def alone(engine: Engine, requests: list[Request]) -> list[list[int]]:
    return [together(engine, [request])[0] for request in requests]


@pytest.fixture(scope="module", params=PATHS)
def path(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def expected(path: str) -> list[list[int]]:
    """Each of the mixed requests run alone."""
    tokens = alone(make(path), mixed_requests())
    assert all(len(t) == TOKENS for t in tokens)
    assert len({tuple(t) for t in tokens}) > 10
    return tokens


def test_a_batch_of_16_equals_each_alone(path: str, expected: list[list[int]]) -> None:
    engine = make(path)
    assert together(engine, mixed_requests()) == expected
    engine.scheduler.cache.check()


def test_cached_equals_uncached(path: str, expected: list[list[int]]) -> None:
    engine = make(path)
    assert together(engine, mixed_requests()[:9]) == expected[:9]
    before = engine.metrics.num_positions
    assert together(engine, mixed_requests()[:9]) == expected[:9]
    # Every token but the first takes a position, and every prompt at most a few.
    assert engine.metrics.num_positions - before < 9 * (TOKENS + 32)
    assert engine.metrics.num_cached_tokens > 1000
    engine.scheduler.cache.check()


def test_cached_equals_uncached_with_keys_of_8_bits() -> None:
    engine = make("int8", kv="int8", max_num_batched_tokens=100)
    cold = together(engine, mixed_requests()[:4])
    assert together(engine, mixed_requests()[:4]) == cold
    assert (
        together(make("int8", kv="int8", enable_prefix_caching=False), mixed_requests()[:4]) == cold
    )


@pytest.mark.parametrize("chunk", [7, 32, 256])
def test_prompt_chunks_equal_the_whole(path: str, expected: list[list[int]], chunk: int) -> None:
    engine = make(path, max_num_batched_tokens=chunk)
    assert together(engine, mixed_requests()[:7]) == expected[:7]


def test_prompt_chunks_of_one_equal_the_whole(path: str, expected: list[list[int]]) -> None:
    engine = make(path, max_num_batched_tokens=1)
    assert together(engine, mixed_requests()[2:5]) == expected[2:5]


def test_one_thread_equals_two(path: str, expected: list[list[int]]) -> None:
    assert together(make(path, threads=1), mixed_requests()[:5]) == expected[:5]


def test_no_cache_equals_paged(path: str, expected: list[list[int]]) -> None:
    engine = make(path, cache="none", max_num_batched_tokens=1024)
    chosen = [i for i, (prompt, _) in enumerate(mixed_requests()) if len(prompt) < 40]
    requests = [mixed_requests()[i] for i in chosen]
    assert together(engine, requests) == [expected[i] for i in chosen]


def test_preempted_and_resumed_equals_uninterrupted(path: str, expected: list[list[int]]) -> None:
    engine = make(path)
    ids = [engine.add(prompt, params) for prompt, params in mixed_requests()]
    tokens: dict[int, list[int]] = {i: [] for i in ids}
    step = 0
    while engine.has_work:
        for event in engine.step():
            tokens[event.request_id] += event.token_ids
        step += 1
        if step % 3 == 0:
            engine.preempt(ids[step % len(ids)])
    assert engine.metrics.num_preemptions > 3
    assert [tokens[i] for i in ids] == expected
    engine.scheduler.cache.check()


def test_a_fork_equals_its_replay(path: str, expected: list[list[int]]) -> None:
    """A fork of a running request goes on as the request itself would with that seed."""
    engine = make(path)
    index, seed = 1, 1
    prompt, params = mixed_requests()[index]
    parent = engine.add(prompt, params)
    children: list[int] = []
    tokens: dict[int, list[int]] = {parent: []}
    while engine.has_work:
        for event in engine.step():
            tokens.setdefault(event.request_id, []).extend(event.token_ids)
        if len(tokens[parent]) == 10 and not children:
            children = [engine.fork(parent, seed), engine.fork(parent, 99)]
    assert tokens[parent] == expected[index]
    assert tokens[children[0]] == expected[index][10:]
    assert tokens[children[1]] != expected[index][10:]
    engine.scheduler.cache.check()


def test_little_memory_preempts_and_changes_nothing(path: str, expected: list[list[int]]) -> None:
    per_token = 23_040 * (2 if path == "f32" else 1)
    engine = make(path, max_model_len=640, kv_memory=900 * per_token)
    assert together(engine, mixed_requests()) == expected
    assert engine.metrics.num_preemptions > 0
    engine.scheduler.cache.check()


def test_the_same_seed_gives_the_same_tokens_whatever_else_runs(path: str) -> None:
    prompt, _ = mixed_requests()[3]
    params = SamplingParams(temperature=1.0, seed=77, max_tokens=16, ignore_eos=True)
    lonely = together(make(path), [(prompt, params)])[0]
    noise = [(prompt, replace(params, seed=None)) for _ in range(5)]
    crowd = together(make(path), [*noise[:2], (prompt, params), *noise[2:]])
    assert crowd[2] == lonely
    assert len({tuple(t) for t in crowd}) == 6


def test_step_is_one_call(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen requests, one forward per step."""
    engine = make(path)
    calls: list[int] = []
    forward: Callable[..., object] = engine.runner.forward
    monkeypatch.setattr(
        engine.runner, "forward", lambda inputs: (calls.append(len(inputs)), forward(inputs))[1]
    )
    for prompt, params in mixed_requests()[2:5]:
        engine.add(prompt, params)
    steps = 0
    while engine.has_work:
        engine.step()
        steps += 1
    assert len(calls) == steps
    assert max(calls) == 3
