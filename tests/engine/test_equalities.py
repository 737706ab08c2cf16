"""A request's tokens depend on its prompt, parameters and seed: token for token, over a fake model.

Every case is compared with `alone`: the same request, whole, in an engine of its own without a cache.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from plait.core.params import SamplingParams
from plait.core.traits import Predicts, Traits
from plait.core.window import CAUSAL
from plait.engine.engine import Engine
from plait.iteration.pace import Pace
from plait.kernels import sampling_reference
from tests.fakes import (
    BLOCK_TRAITS,
    CAUSAL_TRAITS,
    MASK,
    VOCAB,
    Answer,
    drain,
    make_engine,
    plain_logits,
    step,
)
from tests.iteration.simulation import Cost

MODELS = {
    "causal": CAUSAL_TRAITS,
    "block": BLOCK_TRAITS,
    "block, next": replace(BLOCK_TRAITS, predicts=Predicts.NEXT),
}
Case = tuple[list[int], SamplingParams]


@pytest.fixture(params=MODELS)
def traits(request: pytest.FixtureRequest) -> Traits:
    return MODELS[request.param]


def cases() -> list[Case]:
    """16 mixed requests: lengths around pages and blocks, greedy and sampled, with every processor."""
    rng = np.random.default_rng(0)
    settings: list[dict[str, Any]] = [
        {"temperature": 0.0},
        {"temperature": 1.0},
        {"temperature": 0.7, "top_k": 20, "top_p": 0.9},
        {"temperature": 1.5, "min_p": 0.05, "typical_p": 0.9},
        {"temperature": 0.0, "repetition_penalty": 1.3, "presence_penalty": 0.5},
        {"temperature": 1.0, "frequency_penalty": 0.5, "logit_bias": {3: 2.0, 7: -5.0}},
        {"temperature": 0.8, "min_tokens": 10, "stop_token_ids": [11, 12]},
        {"temperature": 1.0, "ignore_eos": True, "max_tokens": 70},
    ]
    lengths = [1, 2, 7, 8, 9, 31, 32, 33, 40, 64, 65, 90, 100, 120, 200, 300]
    return [
        (
            rng.integers(0, VOCAB, length).tolist(),
            SamplingParams(**{"max_tokens": 20, "seed": 100 + i, **settings[i % len(settings)]}),
        )
        for i, length in enumerate(lengths)
    ]


def outcome(answer: Answer) -> tuple[Any, ...]:
    return answer.tokens, answer.reason, answer.stop_token


def run(engine: Engine, requests: list[Case]) -> list[tuple[Any, ...]]:
    ids = [engine.add(prompt, params) for prompt, params in requests]
    answers = drain(engine)
    return [outcome(answers[i]) for i in ids]


_ALONE: dict[int, list[tuple[Any, ...]]] = {}


def alone(traits: Traits) -> list[tuple[Any, ...]]:
    """Each case by itself, recomputing everything in every step."""
    if id(traits) not in _ALONE:
        _ALONE[id(traits)] = [
            run(make_engine(traits, cache="none", max_num_batched_tokens=1024), [case])[0]
            for case in cases()
        ]
    return _ALONE[id(traits)]


def test_the_fake_model_gives_varied_answers(traits: Traits) -> None:
    answers = alone(traits)
    assert len({tuple(tokens) for tokens, _, _ in answers}) == len(answers)
    assert {reason for _, reason, _ in answers} == {"stop", "length"}


def test_greedy_is_what_a_plain_loop_over_the_model_gives() -> None:
    prompt = [3, 1, 4, 1, 5, 9, 2, 6] * 5
    params = SamplingParams(temperature=0.0, max_tokens=40, ignore_eos=True)
    canvas = list(prompt)
    for _ in range(40):
        logits = plain_logits(np.array(canvas, np.int32), CAUSAL, len(canvas) - 1)
        canvas.append(int(logits.argmax()))
    assert run(make_engine(), [(prompt, params)])[0][0] == canvas[len(prompt) :]


def test_sampling_is_what_a_plain_loop_over_the_model_gives() -> None:
    prompt = [3, 1, 4, 1, 5]
    params = SamplingParams(
        top_p=0.9, max_tokens=40, ignore_eos=True, seed=77, presence_penalty=0.4
    )
    canvas = np.array(prompt, np.int32)
    for _ in range(40):
        tokens, _ = sampling_reference.sample(
            plain_logits(canvas, CAUSAL, len(canvas) - 1),
            params,
            positions=np.array([len(canvas)], np.int32),
            seed=77,
            history=canvas,
            num_prompt=len(prompt),
        )
        canvas = np.append(canvas, tokens)
    assert run(make_engine(), [(prompt, params)])[0][0] == canvas[len(prompt) :].tolist()


def test_blocks_are_what_a_plain_loop_over_the_model_gives() -> None:
    prompt = [3, 1, 4, 1, 5]
    size = BLOCK_TRAITS.pattern.size
    params = SamplingParams(temperature=0.0, max_tokens=27, ignore_eos=True)
    canvas = np.array(prompt + [MASK] * 3, np.int32)
    masked = [5, 6, 7]
    while len(canvas) < 32 or masked:
        if not masked:
            masked = list(range(len(canvas), len(canvas) + size))
            canvas = np.append(canvas, np.full(size, MASK, np.int32))
        proposals = {}
        for position in masked:
            z = plain_logits(canvas, BLOCK_TRAITS.pattern, position)[0].astype(np.float64)
            z[MASK] = -np.inf
            proposals[position] = (
                (np.exp(z - z.max()) / np.exp(z - z.max()).sum()).max(),
                z.argmax(),
            )
        bar = min(0.9, max(p for p, _ in proposals.values()) - 1e-5)
        for position, (confidence, token) in proposals.items():
            if confidence >= bar:
                canvas[position] = token
                masked.remove(position)
    assert run(make_engine(BLOCK_TRAITS), [(prompt, params)])[0][0] == canvas[5:32].tolist()


def test_a_batch_is_its_requests_alone(traits: Traits) -> None:
    assert run(make_engine(traits, max_num_batched_tokens=4096), cases()) == alone(traits)


def test_the_order_of_arrival_changes_nothing(traits: Traits) -> None:
    assert run(make_engine(traits), cases()[::-1])[::-1] == alone(traits)


@pytest.mark.parametrize("budget", [1, 7, 32, 256])
def test_prompts_in_chunks_are_whole_prompts(traits: Traits, budget: int) -> None:
    shift = 1 if traits.predicts is Predicts.NEXT else 0
    least = traits.pattern.size + shift if traits.mask_token else 1
    engine = make_engine(traits, max_num_batched_tokens=max(budget, least))
    assert run(engine, cases()) == alone(traits)


def test_keeping_nothing_is_paging(traits: Traits) -> None:
    config = {"cache": "none", "max_num_batched_tokens": 1024}
    assert run(make_engine(traits, **config), cases()) == alone(traits)


def test_little_memory_is_much_memory(traits: Traits) -> None:
    """Requests that start together and grow beyond what there is."""
    growing = [
        ([i + 1] * (10 + i), SamplingParams(max_tokens=90, seed=i, ignore_eos=True))
        for i in range(6)
    ]
    engine = make_engine(traits, num_pages=8)
    assert run(engine, growing) == run(make_engine(traits), growing)
    assert engine.metrics.num_preemptions >= 3


@pytest.mark.parametrize("every", [1, 2, 5])
def test_preempted_and_resumed_is_uninterrupted(traits: Traits, every: int) -> None:
    engine = make_engine(traits, max_num_batched_tokens=2048)
    rng = np.random.default_rng(every)
    ids = [engine.add(prompt, params) for prompt, params in cases()]
    answers: dict[int, Answer] = {}
    for number in range(100_000):
        if not engine.has_work:
            break
        step(engine, answers)
        if number % every == 0:
            engine.preempt(int(rng.choice(ids)))
    assert [outcome(answers[i]) for i in ids] == alone(traits)
    assert engine.metrics.num_preemptions >= 5


@pytest.mark.parametrize("steps", [1, 3, 9])
def test_a_fork_with_its_parents_seed_goes_on_like_its_parent(traits: Traits, steps: int) -> None:
    engine = make_engine(traits, max_num_batched_tokens=2048)
    parent = engine.add(list(range(20)), SamplingParams(max_tokens=60, seed=5, ignore_eos=True))
    answers: dict[int, Answer] = {}
    for _ in range(steps):
        step(engine, answers)
    before = list(answers[parent].tokens) if parent in answers else []
    twin, other = engine.fork(parent, 5), engine.fork(parent, 6)
    engine.scheduler.cache.check()
    drain(engine, answers)
    assert before + answers[twin].tokens == answers[parent].tokens
    assert before + answers[other].tokens != answers[parent].tokens


@pytest.mark.parametrize("steps", [1, 3, 40])
def test_a_fork_is_a_replay_of_everything_that_was_decided(steps: int) -> None:
    prompt, params = list(range(20)), SamplingParams(max_tokens=60, seed=5, ignore_eos=True)
    engine = make_engine()
    parent = engine.add(prompt, params)
    answers: dict[int, Answer] = {}
    for _ in range(steps):
        step(engine, answers)
    before = list(answers[parent].tokens)
    child = engine.fork(parent, 6)
    drain(engine, answers)
    left = replace(params, max_tokens=60 - len(before), seed=6)
    assert run(make_engine(), [(prompt + before, left)])[0][0] == answers[child].tokens


def test_forks_do_not_disturb_each_other(traits: Traits) -> None:
    """A tree of forks from one prompt: every leaf is what it would be by itself."""
    params = SamplingParams(max_tokens=50, seed=0, ignore_eos=True)
    engine = make_engine(traits, max_num_batched_tokens=4096, num_pages=200)
    answers: dict[int, Answer] = {}
    start = engine.add([9, 8, 7] * 15, params)
    prefixes: dict[int, list[int]] = {start: []}
    for _ in range(3):
        for _ in range(4):
            step(engine, answers)
        for key in list(prefixes):
            so_far = prefixes[key] + (answers[key].tokens if key in answers else [])
            prefixes[engine.fork(key, 0)] = so_far
    drain(engine, answers)
    whole = {tuple(prefixes[key] + answers[key].tokens) for key in prefixes}
    assert len(prefixes) == 8
    assert len(whole) == 1  # all have the seed 0


@pytest.mark.parametrize("cache", ["radix", "paged", "none"])
@pytest.mark.parametrize("length", [45, 64])
def test_several_choices_are_several_requests(traits: Traits, cache: str, length: int) -> None:
    engine = make_engine(traits, cache=cache, max_num_batched_tokens=1024)
    prompt = [i % VOCAB for i in range(length)]
    params = SamplingParams(n=4, max_tokens=30, seed=3)
    first = engine.add(prompt, params)
    answers = drain(engine)
    choices = [outcome(answers[first + i]) for i in range(4)]
    assert choices[0] == run(make_engine(traits), [(prompt, replace(params, n=1))])[0]
    assert len({tuple(tokens) for tokens, _, _ in choices}) == 4
    small = make_engine(traits, max_num_seqs=1, num_pages=4)
    first = small.add(prompt, params)
    answers = drain(small)
    assert [outcome(answers[first + i]) for i in range(4)] == choices


def test_a_prompt_is_computed_once_for_all_choices() -> None:
    engine = make_engine()
    engine.add(list(range(50)), SamplingParams(n=8, max_tokens=1, seed=3))
    drain(engine)
    assert engine.metrics.num_positions == 50 + 7  # each child feeds the last position again


def test_tenants_pace_and_deadlines_change_nothing(traits: Traits) -> None:
    """Few places and little memory, shared by four tenants at the slowest pace, and some that run out of time."""
    engine = make_engine(traits, max_num_seqs=5, max_num_batched_tokens=64, num_pages=24)
    engine.scheduler.pace = Pace(Cost(), 1.0)
    rng = np.random.default_rng(0)
    ids = []
    answers: dict[int, Answer] = {}
    for number, (prompt, params) in enumerate(cases()):
        tenant = "abcd"[number % 4 if number > 8 else 0]
        ids.append(engine.add(prompt, params, tenant=tenant, deadline=1e6))
        late = engine.add([5] * 20, SamplingParams(max_tokens=90), tenant=tenant, deadline=1e6)
        for _ in range(int(rng.integers(1, 4))):
            step(engine, answers)
        engine._deadlines[late] = 0.0
    drain(engine, answers)
    assert [outcome(answers[i]) for i in ids] == alone(traits)
    assert engine.metrics.finished["deadline"] > 8
    assert engine.metrics.num_preemptions > 0


def test_seeds_do_not_know_what_else_runs(traits: Traits) -> None:
    prompt, params = [1, 2, 3], SamplingParams(max_tokens=30, seed=42)
    expected = run(make_engine(traits), [(prompt, params)])[0]
    engine = make_engine(traits, max_num_batched_tokens=64)
    for i in range(5):
        engine.add([i + 1] * 30, SamplingParams(max_tokens=30, seed=42, temperature=2.0))
    answers: dict[int, Answer] = {}
    for _ in range(3):
        step(engine, answers)
    key = engine.add(prompt, params)
    drain(engine, answers)
    assert outcome(answers[key]) == expected


def test_the_same_request_without_a_seed_differs() -> None:
    engine = make_engine()
    params = SamplingParams(max_tokens=30, ignore_eos=True)
    ids = [engine.add([1, 2, 3], params) for _ in range(2)]
    answers = drain(engine)
    assert answers[ids[0]].tokens != answers[ids[1]].tokens


def test_a_literal_mask_id_in_the_prompt_survives(traits: Traits) -> None:
    prompt = [MASK, 1, MASK, MASK, 5, MASK]
    params = SamplingParams(max_tokens=30, temperature=0.0, ignore_eos=True)
    engine = make_engine(traits)
    key = engine.add(prompt, params)
    seq = engine._requests[key].seq
    answers = drain(engine)
    assert len(answers[key].tokens) == 30
    assert seq.tokens[:6].tolist() == prompt
    whole = make_engine(traits, cache="none", max_num_batched_tokens=512)
    assert run(whole, [(prompt, params)])[0][0] == answers[key].tokens
    if traits.mask_token is not None:
        assert MASK not in answers[key].tokens
