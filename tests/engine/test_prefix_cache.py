"""What was computed for one request is not computed for another, and nobody's tokens know it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from plait.core.config import PAGE
from plait.core.params import SamplingParams
from plait.core.traits import Traits
from plait.engine.engine import Engine
from tests.engine.test_equalities import MODELS, alone, cases, outcome, run
from tests.fakes import VOCAB, Answer, drain, make_engine, runner_of, step

PARAMS = SamplingParams(temperature=0.0, max_tokens=8, ignore_eos=True)


@pytest.fixture(params=MODELS)
def traits(request: pytest.FixtureRequest) -> Traits:
    return MODELS[request.param]


def random_tokens(length: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, VOCAB - 1, length).tolist()


def fed(engine: Engine) -> int:
    """Positions that were computed."""
    return sum(window.length for batch in runner_of(engine).batches for _, window in batch)


@pytest.mark.parametrize("budget", [16, 100, 4096])
def test_cached_is_uncached(traits: Traits, budget: int) -> None:
    engine = make_engine(traits, num_pages=300, max_num_batched_tokens=budget)
    assert run(engine, cases()) == alone(traits)
    before = fed(engine)
    assert run(engine, cases()[::-1])[::-1] == alone(traits)
    assert before - (fed(engine) - before) > 800
    assert engine.metrics.num_cached_tokens > 800


def test_with_little_memory_it_is_the_same(traits: Traits) -> None:
    engine = make_engine(traits, num_pages=14, max_num_batched_tokens=64)
    for order in (1, -1, 1):  # who came last comes first
        assert run(engine, cases()[::order])[::order] == alone(traits)
    metrics = engine.metrics
    assert metrics.num_evicted_pages > 10
    assert metrics.num_cached_tokens > 0


def test_cancelled_and_preempted_requests_leave_what_is_right(traits: Traits) -> None:
    engine = make_engine(traits, num_pages=60, max_num_batched_tokens=64)
    rng = np.random.default_rng(0)
    for _ in range(2):
        ids = [engine.add(prompt, params) for prompt, params in cases()]
        answers: dict[int, Answer] = {}
        for number in range(30):
            step(engine, answers)
            if number % 2:
                engine.preempt(int(rng.choice(ids)))
            elif number % 5 == 0:
                engine.cancel(int(rng.choice(ids)))
        drain(engine, answers)
    assert engine.metrics.finished["cancelled"] > 3
    assert run(engine, cases()) == alone(traits)


def test_several_choices_of_a_cached_prompt(traits: Traits) -> None:
    prompt, params = random_tokens(90), SamplingParams(n=3, max_tokens=20, seed=3)
    engine = make_engine(traits)
    outcomes = []
    for _ in range(2):
        first = engine.add(prompt, params)
        answers = drain(engine)
        outcomes.append([outcome(answers[first + i]) for i in range(3)])
    assert outcomes[0] == outcomes[1]
    cold = make_engine(traits, enable_prefix_caching=False)
    first = cold.add(prompt, params)
    answers = drain(cold)
    assert outcomes[0] == [outcome(answers[first + i]) for i in range(3)]


@pytest.mark.parametrize("budget", [256, 4096])
def test_prompts_that_come_together_are_computed_once(traits: Traits, budget: int) -> None:
    """They begin alike for 12 pages, and differ in the last few tokens."""
    prompts = [[*random_tokens(12 * PAGE), *random_tokens(9, seed)] for seed in range(1, 6)]
    cold = make_engine(traits, enable_prefix_caching=False, num_pages=200)
    engine = make_engine(traits, num_pages=200, max_num_batched_tokens=budget)
    ids = [engine.add(prompt, PARAMS) for prompt in prompts]
    answers = drain(engine)
    for key, prompt in zip(ids, prompts, strict=True):
        alone_key = cold.add(prompt, PARAMS)
        assert outcome(answers[key]) == outcome(drain(cold)[alone_key])
    assert fed(cold) - fed(engine) >= 4 * 12 * PAGE
    assert engine.metrics.num_cached_tokens >= 4 * 12 * PAGE


def test_others_go_on_while_a_prompt_waits_for_the_same() -> None:
    engine = make_engine(num_pages=200, max_num_batched_tokens=4096)
    same = [engine.add(random_tokens(8 * PAGE), PARAMS) for _ in range(2)]
    other = engine.add(random_tokens(50, 7), PARAMS)
    engine.step()
    first = [key for key, _ in runner_of(engine).batches[0]]
    assert first == [same[0], other]


def test_who_brings_less_than_a_prompt_could_do_itself_is_not_waited_for() -> None:
    engine = make_engine(num_pages=200, max_num_batched_tokens=6 * PAGE)
    tokens = random_tokens(20 * PAGE)
    engine.add(tokens[: 2 * PAGE + 1], PARAMS, tenant="a")
    engine.add(tokens, PARAMS, tenant="b")
    engine.step()
    lengths = [window.length for _, window in runner_of(engine).batches[0]]
    assert lengths == [2 * PAGE + 1, 4 * PAGE - 1]


def test_of_a_cached_prompt_one_position_is_computed() -> None:
    engine = make_engine(num_pages=100)
    prompt = random_tokens(2048)
    for cached, positions in ((0, 2048), (2047, 1)):
        before = engine.metrics.num_positions
        key = engine.add(prompt, replace(PARAMS, max_tokens=1))
        metrics = drain(engine)[key].metrics
        assert metrics is not None
        assert metrics.num_cached_tokens == cached
        assert engine.metrics.num_positions - before == positions
    assert engine.counters == {
        "head_rows": 0,
        "prefix_lookups": 2,
        "prefix_hit_tokens": 2047,
        "prefix_evicted_pages": 0,
        "drafted": 0,
        "accepted": 0,
    }


@pytest.mark.parametrize("budget", [100, 512])
def test_a_prefix_is_computed_once_for_all_that_come_together(budget: int) -> None:
    prefix = random_tokens(2048)
    engine = make_engine(num_pages=200, max_num_batched_tokens=budget, proposer="none")
    prompts = [prefix + random_tokens(20, 1 + i) for i in range(16)]
    found = run(engine, [(prompt, PARAMS) for prompt in prompts])
    # The second starts in the step that ends the prefix, and may compute the end of it too.
    cached = engine.metrics.num_cached_tokens
    assert 15 * 2048 - PAGE <= cached <= 15 * 2048
    assert fed(engine) == 16 * (2048 + 27) - cached
    cold = make_engine(num_pages=2000, enable_prefix_caching=False, proposer="none")
    assert run(cold, [(prompt, PARAMS) for prompt in prompts]) == found
    assert fed(cold) == 16 * (2048 + 27)


def test_who_runs_already_shares_with_who_comes_later() -> None:
    prefix = random_tokens(640)
    engine = make_engine(max_num_batched_tokens=64)
    first = engine.add(prefix + [1], PARAMS)
    answers: dict[int, Answer] = {}
    for _ in range(4):
        step(engine, answers)
    engine.scheduler.max_num_batched_tokens = 128
    second = engine.add(prefix + [2], PARAMS)
    drain(engine, answers)
    assert fed(engine) < 640 + 2 * (1 + 7) + 200
    for key, last in ((first, 1), (second, 2)):
        cold = make_engine(cache="none", max_num_batched_tokens=1024)
        other = cold.add([*prefix, last], PARAMS)
        assert answers[key].tokens == drain(cold)[other].tokens


def test_a_preempted_request_finds_what_it_left() -> None:
    engine = make_engine(max_num_batched_tokens=512)
    key = engine.add(random_tokens(300), replace(PARAMS, max_tokens=40))
    answers: dict[int, Answer] = {}
    for _ in range(10):
        step(engine, answers)
    before = engine.metrics.num_positions
    engine.preempt(key)
    step(engine, answers)
    assert engine.metrics.num_positions - before <= PAGE
    drain(engine, answers)
    metrics = answers[key].metrics
    assert metrics is not None
    assert metrics.num_cached_tokens == 0  # nothing of the prompt was there before


def test_salts_share_nothing() -> None:
    engine = make_engine()
    prompt = random_tokens(100)
    for salt, cached in (("", 0), ("a", 0), ("b", 0), ("a", 99), ("", 99)):
        key = engine.add(prompt, PARAMS, cache_salt=salt)
        metrics = drain(engine)[key].metrics
        assert metrics is not None
        assert metrics.num_cached_tokens == cached


def test_forks_keep_their_salt() -> None:
    engine = make_engine()
    prompt = random_tokens(100)
    parent = engine.add(prompt, replace(PARAMS, max_tokens=60), cache_salt="a")
    answers: dict[int, Answer] = {}
    for _ in range(3):
        step(engine, answers)
    child = engine.fork(parent, 1)
    engine.cancel(parent)
    drain(engine, answers)
    longer = prompt + answers[parent].tokens + answers[child].tokens
    for salt, cached in (("", 0), ("a", len(longer) - 1)):
        key = engine.add(longer, PARAMS, cache_salt=salt)
        metrics = drain(engine)[key].metrics
        assert metrics is not None
        assert metrics.num_cached_tokens == cached


def test_a_request_that_fails_leaves_nothing_wrong_behind() -> None:
    engine = make_engine(max_num_batched_tokens=64)
    prompt = random_tokens(200)
    broken = engine.add(prompt, PARAMS)
    runner_of(engine).broken.add(broken)
    assert drain(engine)[broken].reason == "error"
    cold = make_engine(cache="none")
    key = cold.add(prompt, PARAMS)
    again = engine.add(prompt, PARAMS)
    assert drain(engine)[again].tokens == drain(cold)[key].tokens


def test_a_step_that_raises_leaves_nothing_wrong_behind() -> None:
    engine = make_engine(max_num_batched_tokens=64)
    prompt = random_tokens(200)
    engine.add(prompt, PARAMS)
    engine.step()
    runner_of(engine).error = MemoryError("boom")
    with pytest.raises(MemoryError, match="boom"):
        engine.step()
    engine.end_all("error")  # type: ignore[arg-type]
    engine.scheduler.cache.check()
    again = engine.add(prompt, PARAMS)
    cold = make_engine(cache="none")
    key = cold.add(prompt, PARAMS)
    assert drain(engine)[again].tokens == drain(cold)[key].tokens
