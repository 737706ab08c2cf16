"""Answers that were begun, scores of a part of a prompt, and answers that end where something else follows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from plait.core.errors import UserError
from plait.core.params import SamplingParams
from plait.core.structured import StructuredOutputs
from plait.core.window import CAUSAL, FinishReason
from tests.engine.test_structured import Spelling, make, text_of
from tests.fakes import BLOCK_TRAITS, EOS, VOCAB, Answer, drain, plain_logits, step

PROMPT = list(range(8, 30)) * 4
DRAWN = SamplingParams(temperature=1.0, seed=5, max_tokens=24, ignore_eos=True)
WORDS = StructuredOutputs(regex="(ab|c){3,9}[0-9]{2}")
OPEN = StructuredOutputs(regex="[a-h]{2,}", open_end=True)


def answer(prompt: list[int], params: SamplingParams, engine: Any = None, **choices: Any) -> Answer:
    engine = engine or make()
    key = engine.add(prompt, params, **choices)
    return drain(engine)[key]


@pytest.mark.parametrize(
    "params",
    [
        DRAWN,
        replace(DRAWN, frequency_penalty=1.0, repetition_penalty=1.3),
        replace(DRAWN, ignore_eos=False, structured_outputs=WORDS, logprobs=2),
        replace(DRAWN, ignore_eos=False, structured_outputs=WORDS),
    ],
)
def test_an_answer_that_was_begun_goes_on_as_if_it_had_not_been_cut(params: SamplingParams) -> None:
    whole = answer(PROMPT, params)
    for cut in (1, 2, min(5, len(whole.tokens) - 1)):
        left = replace(params, max_tokens=24 - cut)
        rest = answer(PROMPT + whole.tokens[:cut], left, answered=cut)
        assert rest.tokens == whole.tokens[cut:]
        assert rest.reason == whole.reason
        assert rest.logprobs == whole.logprobs[cut:]


def test_a_part_of_a_prompt_is_scored_and_the_rest_found() -> None:
    engine, params = make(), SamplingParams(max_tokens=0, prompt_logprobs=1)
    every = answer(PROMPT, params).prompt_logprobs
    assert every is not None
    answer(PROMPT[:70], SamplingParams(max_tokens=1), engine)
    for start in (1, 40, 71, 87):
        found = answer(PROMPT, params, engine, score_from=start)
        assert found.prompt_logprobs is not None
        assert found.prompt_logprobs[start:] == every[start:]
        assert not any(found.prompt_logprobs[:start])
        assert found.metrics is not None
        if start >= 71:
            assert found.metrics.num_forwarded_positions <= len(PROMPT) - 70
    preempted = engine.add(PROMPT, params, score_from=60)
    answers: dict[int, Answer] = {}
    step(engine, answers)
    engine.preempt(preempted)
    assert drain(engine, answers)[preempted].prompt_logprobs[60:] == every[60:]  # type: ignore[index]


def test_alternatives_are_those_that_a_grammar_lets_through() -> None:
    params = SamplingParams(
        temperature=0.0,
        max_tokens=1,
        logprobs=4,
        structured_outputs=StructuredOutputs(regex="[a-c]x?"),
    )
    found = answer(PROMPT, params)
    (entry,) = found.logprobs
    row = plain_logits(np.array(PROMPT, np.int32), CAUSAL, len(PROMPT) - 1)[0].astype(np.float64)
    logs = row - row.max() - np.log(np.exp(row - row.max()).sum())
    names = [name.decode() for name in Spelling().vocabulary()]
    allowed = {i for i, name in enumerate(names) if name in ("a", "b", "c")}
    assert set(entry.top) == allowed, "no more than may come, though four were asked for"
    assert list(entry.top) == sorted(allowed, key=lambda i: -logs[i])
    for token, value in entry.top.items():
        assert value == pytest.approx(logs[token])
    assert entry.rank == 1 + int((row > row[found.tokens[0]]).sum())


def test_what_follows_an_answer_with_an_open_end_ends_it_and_is_no_part_of_it() -> None:
    ends = set()
    for seed in range(30):
        params = SamplingParams(seed=seed, max_tokens=40, structured_outputs=OPEN)
        found = answer(PROMPT, params)
        assert found.reason is FinishReason.STOP
        assert found.stop_token == found.tokens[-1]
        text = text_of(found.tokens[:-1])
        assert len(text) >= 2
        assert set(text) <= set("abcdefgh")
        last = text_of(found.tokens[-1:])
        assert found.tokens[-1] == EOS or last[0] not in "abcdefgh"
        ends.add(last)
    assert len(ends) > 5


@pytest.mark.parametrize("config", [{"proposer": "lookahead"}, {"max_num_seqs": 1}])
def test_how_it_is_run_makes_no_difference_to_an_open_end(config: dict[str, Any]) -> None:
    many = [SamplingParams(seed=i, max_tokens=40, structured_outputs=OPEN) for i in range(12)]
    alone = [answer(PROMPT, params) for params in many]
    engine = make(**config)
    keys = [engine.add(PROMPT, params) for params in many]
    answers: dict[int, Answer] = {}
    for _ in range(4):
        step(engine, answers)
    for key in keys:
        engine.preempt(key)
    found = drain(engine, answers)
    assert [found[key].tokens for key in keys] == [one.tokens for one in alone]
    assert [found[key].stop_token for key in keys] == [one.stop_token for one in alone]


@pytest.mark.parametrize(
    ("params", "choices", "words"),
    [
        (DRAWN, {"answered": len(PROMPT)}, "answered"),
        (DRAWN, {"answered": -1}, "answered"),
        (DRAWN, {"answered": True}, "answered"),
        (DRAWN, {"score_from": 4}, "prompt_logprobs"),
        (SamplingParams(max_tokens=0, prompt_logprobs=0), {"score_from": 0}, "score_from"),
        (SamplingParams(max_tokens=0, prompt_logprobs=0), {"score_from": 999}, "score_from"),
        (SamplingParams(max_tokens=1, prompt_logprobs=0), {"answered": 1}, "answered"),
        (SamplingParams(structured_outputs=WORDS), {"answered": 2}, "does not fit its grammar"),
    ],
)
def test_what_makes_no_sense_is_refused(
    params: SamplingParams, choices: dict[str, Any], words: str
) -> None:
    engine = make()
    with pytest.raises(UserError, match=words) as refusal:
        engine.add(PROMPT, params, **choices)
    assert refusal.value.hint
    assert not engine.has_work
    assert max(PROMPT) < VOCAB


def test_what_is_not_written_left_to_right_cannot_be_begun() -> None:
    engine = make(traits=BLOCK_TRAITS)
    with pytest.raises(UserError, match="left to right"):
        engine.add(PROMPT, DRAWN, answered=2)
    with pytest.raises(UserError, match="left to right"):
        make().add(PROMPT, DRAWN, answered=2, decoder="contrastive", options={"keep": "6"})
