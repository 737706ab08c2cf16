"""The life of a request in the engine: stopping, failing, cancelling, scoring, counting."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from plait.core.errors import ContextLengthError, UserError
from plait.core.params import SamplingParams
from plait.core.sequence import Event, Sequence
from plait.core.traits import Traits
from plait.core.window import CAUSAL, FinishReason
from plait.engine import emission
from tests.fakes import (
    BLOCK_TRAITS,
    CAUSAL_TRAITS,
    EOS,
    VOCAB,
    Answer,
    collect,
    drain,
    make_engine,
    plain_logits,
    runner_of,
    step,
)

GREEDY = SamplingParams(temperature=0.0, max_tokens=30, ignore_eos=True)
BOTH = pytest.mark.parametrize("traits", [CAUSAL_TRAITS, BLOCK_TRAITS], ids=["causal", "block"])


def answer(prompt: list[int], params: SamplingParams, traits: Traits = CAUSAL_TRAITS) -> Answer:
    engine = make_engine(traits)
    key = engine.add(prompt, params)
    return drain(engine)[key]


# ---- how requests end


@BOTH
def test_the_limit_ends_a_request(traits: Traits) -> None:
    for count in (1, 2, 9, 30):
        ended = answer([1, 2, 3], replace(GREEDY, max_tokens=count), traits)
        assert len(ended.tokens) == count
        assert ended.reason == "length"
        assert ended.stop_token is None


@BOTH
def test_a_stop_token_ends_a_request_and_is_its_last_token(traits: Traits) -> None:
    free = answer([1, 2, 3], GREEDY, traits).tokens
    index = next(i for i in range(10, 30) if free[i] not in free[:i])
    stopped = answer([1, 2, 3], replace(GREEDY, stop_token_ids=[free[index]]), traits)
    assert stopped.tokens == free[: index + 1]
    assert (stopped.reason, stopped.stop_token) == ("stop", free[index])


@BOTH
def test_the_models_own_stop_token_counts_unless_ignored(traits: Traits) -> None:
    params = replace(GREEDY, logit_bias={EOS: 100.0})
    ended = answer([1, 2], replace(params, ignore_eos=False), traits)
    assert (ended.tokens, ended.reason, ended.stop_token) == ([EOS], "stop", EOS)
    assert answer([1, 2], params, traits).tokens == [EOS] * 30


@BOTH
def test_no_stop_token_before_min_tokens(traits: Traits) -> None:
    params = replace(GREEDY, logit_bias={EOS: 100.0}, ignore_eos=False, min_tokens=11)
    ended = answer([1, 2], params, traits)
    assert EOS not in ended.tokens[:11]
    assert ended.tokens[11:] == [EOS]


def test_a_stop_token_in_the_prompt_does_not_count() -> None:
    assert answer([EOS, 1, EOS], replace(GREEDY, ignore_eos=False, logit_bias={EOS: -99.0})).tokens


@BOTH
def test_the_context_ends_a_request(traits: Traits) -> None:
    engine = make_engine(traits, max_model_len=48)
    key = engine.add([1] * 40, replace(GREEDY, max_tokens=None))
    ended = drain(engine)[key]
    assert len(ended.tokens) == 8
    assert ended.reason == "length"


def test_finish_ends_a_request_from_outside() -> None:
    engine = make_engine()
    key = engine.add([1], GREEDY)
    engine.step()
    event = engine.finish(key, FinishReason.STOP)
    assert event is not None
    assert (event.finish_reason, event.token_ids) == ("stop", ())
    assert event.metrics is not None
    assert event.metrics.finished_time is not None
    assert engine.finish(key, FinishReason.STOP) is None
    assert engine.cancel(12345) is None
    assert not engine.has_work
    drain(engine)


@pytest.mark.parametrize("steps", [0, 1, 4])
def test_cancelling_gives_everything_back(steps: int) -> None:
    engine = make_engine()
    ids = [engine.add([1] * 40, GREEDY) for _ in range(3)]
    answers: dict[int, Answer] = {}
    for _ in range(steps):
        step(engine, answers)
    event = engine.cancel(ids[1])
    assert event is not None
    assert event.finish_reason == "cancelled"
    engine.scheduler.cache.check()
    drain(engine, answers)
    assert answers[ids[0]].tokens == answers[ids[2]].tokens
    assert len(answers[ids[0]].tokens) == 30


def test_an_engine_without_work_has_nothing_to_say() -> None:
    engine = make_engine()
    assert not engine.has_work
    assert engine.step() == []


# ---- events


@BOTH
def test_events_carry_each_token_once_and_in_order(traits: Traits) -> None:
    engine = make_engine(traits)
    key = engine.add([1, 2, 3], replace(GREEDY, logprobs=1))
    seq = engine._requests[key].seq
    shown: list[int] = []
    while engine.has_work:
        for event in engine.step():
            shown += event.token_ids
            assert len(event.logprobs) == len(event.token_ids)
            assert (event.metrics is not None) == (event.finish_reason is not None)
    assert shown == seq.tokens[3:].tolist()


def test_logprobs_are_those_of_the_raw_distribution() -> None:
    params = replace(GREEDY, logprobs=3, logit_bias={5: 50.0}, max_tokens=3)
    result = answer([1, 2, 3], params)
    assert result.tokens == [5, 5, 5]
    canvas = np.array([1, 2, 3, 5, 5], np.int32)
    for i, entry in enumerate(result.logprobs):
        z = plain_logits(canvas[: 3 + i], CAUSAL, 2 + i)[0].astype(np.float64)
        exact = z - np.log(np.exp(z).sum())
        assert entry.token == pytest.approx(exact[5])
        assert entry.rank == 1 + int((z > z[5]).sum())
        assert list(entry.top) == np.argsort(-z, kind="stable")[:3].tolist()


@pytest.mark.parametrize("cache", ["radix", "paged", "none"])
@pytest.mark.parametrize("max_tokens", [0, 2])
def test_prompt_logprobs_are_those_of_every_prompt_token(cache: str, max_tokens: int) -> None:
    prompt = np.random.default_rng(0).integers(0, VOCAB, 150).astype(np.int32)
    engine = make_engine(cache=cache, max_num_batched_tokens=200)
    key = engine.add(prompt, replace(GREEDY, prompt_logprobs=2, max_tokens=max_tokens))
    result = drain(engine)[key]
    assert len(result.tokens) == max_tokens
    assert result.prompt_logprobs is not None
    assert result.prompt_logprobs[0] is None
    assert len(result.prompt_logprobs) == 150
    for position in range(1, 150):
        entry = result.prompt_logprobs[position]
        assert entry is not None
        z = plain_logits(prompt[:position], CAUSAL, position - 1)[0].astype(np.float64)
        assert entry.token == pytest.approx(z[prompt[position]] - np.log(np.exp(z).sum()))
        assert len(entry.top) == 2


def test_prompt_logprobs_survive_a_preemption_and_are_shared_by_choices() -> None:
    prompt = list(range(50)) * 4
    params = replace(GREEDY, prompt_logprobs=0, max_tokens=2, n=2)
    calm = make_engine()
    first = calm.add(prompt, params)
    expected = drain(calm)
    engine = make_engine(max_num_batched_tokens=50)
    again = engine.add(prompt, params)
    answers: dict[int, Answer] = {}
    for number in range(1, 200):
        if not engine.has_work:
            break
        step(engine, answers)
        if number in (2, 3, 4):
            engine.preempt(again)
    assert engine.metrics.num_preemptions == 3
    for i in range(2):
        assert answers[again + i].prompt_logprobs == expected[first + i].prompt_logprobs
        assert answers[again + i].tokens == expected[first + i].tokens
    assert expected[first + 1].prompt_logprobs == expected[first].prompt_logprobs


def test_nobody_ever_holds_the_logits_of_a_whole_prompt() -> None:
    engine = make_engine(max_num_batched_tokens=4096)
    engine.add([1] * 1000, replace(GREEDY, prompt_logprobs=0, max_tokens=1))
    drain(engine)
    rows = [len(window.rows) for batch in runner_of(engine).batches for _, window in batch]
    assert max(rows) == 64


def test_a_prompt_of_one_token_can_be_scored() -> None:
    result = answer([1], replace(GREEDY, prompt_logprobs=0, max_tokens=0))
    assert (result.tokens, result.reason, result.prompt_logprobs) == ([], "length", (None,))


# ---- several choices


def test_a_cancelled_first_choice_leaves_the_others_alive() -> None:
    params = SamplingParams(n=3, max_tokens=5, seed=1, ignore_eos=True)
    calm = make_engine()
    first = calm.add([1, 2, 3], params)
    expected = drain(calm)
    engine = make_engine()
    again = engine.add([1, 2, 3], params)
    engine.cancel(again)
    engine.cancel(again + 1)
    answers = drain(engine)
    assert answers[again + 2].tokens == expected[first + 2].tokens


def test_a_choice_may_be_cancelled_before_its_birth() -> None:
    engine = make_engine()
    first = engine.add([1, 2, 3], SamplingParams(n=3, max_tokens=5, seed=1))
    assert engine.cancel(first + 1) is not None
    answers = drain(engine)
    assert set(answers) == {first, first + 2}


# ---- failures


@BOTH
def test_logits_that_are_no_numbers_end_that_request_alone(traits: Traits) -> None:
    expected = answer([4, 5, 6], GREEDY, traits).tokens
    engine = make_engine(traits)
    ids = [engine.add([4, 5, 6], GREEDY) for _ in range(3)]
    answers: dict[int, Answer] = {}
    step(engine, answers)
    runner_of(engine).broken.add(ids[1])
    drain(engine, answers)
    assert answers[ids[1]].reason == "error"
    assert "NaN" in (answers[ids[1]].error or "")
    assert answers[ids[0]].tokens == answers[ids[2]].tokens == expected
    assert engine.metrics.finished == {"error": 1, "length": 2}


def test_a_decoder_that_raises_ends_its_request_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make_engine()
    good, bad = engine.add([1], GREEDY), engine.add([2], GREEDY)
    request = engine._requests[bad]

    class Faulty:
        def best(self, *_: Any) -> int:
            return 0

        def decide_all(self, *_: Any) -> None:
            raise ZeroDivisionError("oops")

    monkeypatch.setattr(request, "decoder", Faulty())
    answers = drain(engine)
    assert answers[bad].error == "ZeroDivisionError: oops"
    assert len(answers[good].tokens) == 30


def test_an_event_that_cannot_be_made_ends_its_request_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = make_engine()
    good, bad = engine.add([1], GREEDY), engine.add([2], GREEDY)
    take = emission.take

    def faulty(seq: Sequence, traits: Traits) -> Event | None:
        if seq.request_id == bad:
            raise ZeroDivisionError("oops")
        return take(seq, traits)

    monkeypatch.setattr(emission, "take", faulty)
    answers = drain(engine)
    assert answers[bad].error == "ZeroDivisionError: oops"
    assert len(answers[good].tokens) == 30


def test_a_failed_first_choice_leaves_the_others_alive() -> None:
    engine = make_engine()
    first = engine.add([1, 2, 3], SamplingParams(n=2, max_tokens=5, seed=1, ignore_eos=True))
    runner_of(engine).broken.add(first)
    answers = drain(engine)
    assert answers[first].reason == "error"
    assert len(answers[first + 1].tokens) == 5


def test_a_step_without_memory_is_everybodys_and_end_all_cleans_up() -> None:
    engine = make_engine()
    ids = [engine.add([1] * 40, replace(GREEDY, n=2)) for _ in range(2)]
    engine.step()
    runner_of(engine).error = MemoryError("no more")
    with pytest.raises(MemoryError, match="no more"):
        engine.step()
    events = engine.end_all(FinishReason.ERROR, "gone")
    assert sorted(e.request_id for e in events) == [ids[0], ids[0] + 1, ids[1], ids[1] + 1]
    assert {e.error for e in events} == {"gone"}
    assert not engine.has_work
    drain(engine)
    key = engine.add([1], GREEDY)
    assert len(drain(engine)[key].tokens) == 30


def test_a_request_that_outgrows_shrunken_memory_says_so() -> None:
    engine = make_engine(num_pages=4)
    key = engine.add([1] * 60, replace(GREEDY, max_tokens=60))
    answers: dict[int, Answer] = {}
    collect(answers, engine.step())
    pool = engine.scheduler.cache.pool
    stolen = [pool.allocate() for _ in range(pool.num_free)]
    while engine.has_work:
        collect(answers, engine.step())
    assert answers[key].reason == "error"
    assert "KV cache" in (answers[key].error or "")
    assert len(stolen) == 2


# ---- what is refused


@pytest.mark.parametrize(
    ("prompt", "match"),
    [
        ([], "empty"),
        ([VOCAB], str(VOCAB)),
        ([-1], "-1"),
        ([1.5], "no token id"),
        (["a"], "no token id"),
        ([[1], [1, 2]], "no token id"),
        ([2**70], "no token id"),
        ([True], "no token id"),
    ],
)
def test_prompts_that_are_none_are_refused(prompt: list[Any], match: str) -> None:
    engine = make_engine()
    with pytest.raises(UserError, match=match):
        engine.add(prompt, GREEDY)
    assert not engine.has_work


def test_a_prompt_that_is_too_long_is_refused_with_both_numbers() -> None:
    engine = make_engine(max_model_len=100)
    with pytest.raises(ContextLengthError, match=r"100 tokens.* 100"):
        engine.add([1] * 100, GREEDY)
    engine.add([1] * 99, GREEDY)
    engine.add([1] * 100, replace(GREEDY, max_tokens=0, prompt_logprobs=0))
    assert len(drain(engine)) == 2


def test_bias_for_a_token_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UserError, match="logit_bias"):
        make_engine().add([1], replace(GREEDY, logit_bias={VOCAB: 1.0}))


def test_scoring_is_refused_where_it_means_something_else() -> None:
    with pytest.raises(UserError, match="prompt_logprobs"):
        make_engine(BLOCK_TRAITS).add([1], replace(GREEDY, prompt_logprobs=0))


# ---- counting


def test_metrics_of_a_request() -> None:
    engine = make_engine()
    key = engine.add([1] * 40, replace(GREEDY, max_tokens=5))
    metrics = drain(engine)[key].metrics
    assert metrics is not None
    times = (
        metrics.arrival_time,
        metrics.first_scheduled_time,
        metrics.first_token_time,
        metrics.finished_time,
    )
    assert None not in times
    assert sorted(times) == list(times)  # type: ignore[type-var]
    assert (metrics.num_forwards, metrics.num_forwarded_positions) == (5, 44)
    assert (metrics.num_cached_tokens, metrics.num_preemptions) == (0, 0)


def test_a_choice_knows_how_much_it_did_not_compute() -> None:
    engine = make_engine()
    first = engine.add([1] * 40, replace(GREEDY, n=2))
    answers = drain(engine)
    assert [answers[first + i].metrics.num_cached_tokens for i in range(2)] == [0, 40]  # type: ignore[union-attr]


def test_metrics_of_the_engine() -> None:
    engine = make_engine(BLOCK_TRAITS, options={"threshold": "0.2"})
    engine.add([1] * 16, replace(GREEDY, max_tokens=32))
    drain(engine)
    metrics = engine.metrics
    assert metrics.num_tokens == 32
    assert metrics.num_windows < 32  # several tokens per forward
    assert metrics.tokens_per_forward == 32 / metrics.num_windows
    assert metrics.position_efficiency == 32 / metrics.num_positions
    assert 0 < metrics.forward_seconds <= metrics.step_seconds
    fed = sum(window.length for batch in runner_of(engine).batches for _, window in batch)
    assert fed == metrics.num_positions


def test_an_event_is_plain_data() -> None:
    assert Event(3, (1, 2)) == Event(3, (1, 2))
