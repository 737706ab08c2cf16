"""Answers that are led to their end before their length would cut them: whole, and the same however they are run."""

from __future__ import annotations

import json
import random
from functools import cache
from typing import Any

import pytest

from plait.core.errors import UserError
from plait.core.params import SamplingParams
from plait.core.structured import StructuredOutputs
from plait.core.window import FinishReason
from plait.grammar import leading
from plait.grammar.completing import Completer
from tests.engine.test_structured import SCHEMA, Spelling, make, step, text_of, told
from tests.fakes import BLOCK_TRAITS, EOS, FULL_TRAITS, Answer, drain

LINK = {"$ref": "#/$defs/link"}
CHAIN = {
    "$defs": {
        "link": {
            "type": "object",
            "properties": {"a": {"type": "array", "items": LINK}, "b": {"type": "integer"}},
            "required": ["a", "b"],
            "additionalProperties": False,
        }
    },
    **LINK,
}
NESTED = 'start: item\nitem: "[" item ("," item)* "]" | /[0-9]/'
KINDS = [
    {"json": CHAIN, "disable_any_whitespace": True},
    {"grammar": NESTED},
    {"regex": "[ab]{3,}c[0-9]+"},
]


@cache
def requests() -> list[tuple[list[int], SamplingParams]]:
    """Most of them would go on for ever: the end of the model is unlikely."""
    found, rng = [], random.Random(2)
    for i in range(24):
        asked = StructuredOutputs(**KINDS[i % 3], complete=True)  # type: ignore[arg-type]
        params = SamplingParams(
            max_tokens=(30, 47, 64, 140)[i // 3 % 4],
            seed=i,
            temperature=(0.0, 1.0, 1.7)[i % 3],
            logprobs=1 if i % 5 == 0 else None,
            logit_bias={EOS: -9.0, 10: 3.0 * (i % 2)},
            structured_outputs=asked,
        )
        found.append(([rng.randrange(30) for _ in range(1 + i)], params))
    return found


@cache
def expected() -> list[tuple[Any, ...]]:
    found = []
    for prompt, params in requests():
        engine = make()
        engine.add(prompt, params)
        found.append(told(drain(engine)[0]))
    return found


def test_answers_are_whole() -> None:
    reasons = set()
    for (_, params), (tokens, reason, *_, error, _) in zip(requests(), expected(), strict=True):
        assert error is None
        assert len(tokens) <= (params.max_tokens or 0)
        reasons.add(reason)
        text, asked = text_of(tokens), params.structured_outputs
        assert asked is not None
        if asked.kind == "regex":
            assert text.rstrip("0123456789").strip("ab") == "c"
        else:
            json.loads(text)
    assert FinishReason.LENGTH in reasons


def test_without_it_they_are_cut() -> None:
    engine = make()
    prompt, params = requests()[0]
    plain = StructuredOutputs(**KINDS[0])  # type: ignore[arg-type]
    fields = {"max_tokens": 30, "temperature": 0.0, "logit_bias": params.logit_bias}
    engine.add(prompt, SamplingParams(structured_outputs=plain, **fields))  # type: ignore[arg-type]
    answer = drain(engine)[0]
    assert answer.reason == FinishReason.LENGTH
    with pytest.raises(ValueError, match="."):
        json.loads(text_of(answer.tokens))


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"max_num_batched_tokens": 8},
        {"num_pages": 14, "max_num_batched_tokens": 48},
        {"proposer": "lookahead", "options": {"width": "5"}},
        {"proposer": "lookahead", "options": {"width": "8", "branches": "3"}},
    ],
    ids=str,
)
def test_how_it_is_run_makes_no_difference(config: dict[str, Any]) -> None:
    engine = make(**config)
    ids = [engine.add(prompt, params) for prompt, params in requests()]
    answers = drain(engine)
    assert [told(answers[i]) for i in ids] == expected()


def test_preempted_at_any_time_is_uninterrupted() -> None:
    engine, rng = make(), random.Random(11)
    ids = [engine.add(prompt, params) for prompt, params in requests()]
    answers: dict[int, Answer] = {}
    while engine.has_work:
        for request in rng.sample(ids, 3):
            engine.preempt(request)
        step(engine, answers)
    assert [told(answers[i]) for i in ids] == expected()


def test_models_that_decide_blocks_are_led_too() -> None:
    engine = make(traits=BLOCK_TRAITS)
    ids = [engine.add(prompt, params) for prompt, params in requests()]
    answers = drain(engine)
    for i, (_, params) in zip(ids, requests(), strict=True):
        if params.structured_outputs is not None and params.structured_outputs.kind != "regex":
            json.loads(text_of(answers[i].tokens))


def test_what_has_no_room_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make()
    asked = StructuredOutputs(regex="[ab]{60,}c", complete=True)
    request = engine.add([1], SamplingParams(max_tokens=30, structured_outputs=asked))
    answer = drain(engine)[request]
    assert (answer.reason, len(answer.tokens)) == (FinishReason.LENGTH, 30)
    monkeypatch.setattr(leading, "EFFORT", 0)
    prompt, params = requests()[0]
    engine = make()
    engine.add(prompt, params)
    assert drain(engine)[0].reason == FinishReason.LENGTH


def test_where_anything_may_follow_nothing_is_complete() -> None:
    with pytest.raises(UserError, match="complete"):
        StructuredOutputs(regex="a", open_end=True, complete=True)


def only(prompt: list[int], traits: Any = None, **fields: Any) -> Answer:
    engine = make(**({"proposer": "none"} if traits is None else {"traits": traits}))
    request = engine.add(prompt, SamplingParams(**fields))
    return drain(engine)[request]


@pytest.mark.parametrize("room", range(24, 40))
def test_a_room_between_two_places_is_room(room: int) -> None:
    asked = StructuredOutputs(regex=f"[ef]*[gh]{{{room - 1}}}", complete=True)
    favoured = Spelling().encode("e", add_special=False)[0]
    answer = only(
        [1],
        max_tokens=room,
        temperature=0.0,
        logit_bias={favoured: 50.0},
        structured_outputs=asked,
    )
    text = text_of(answer.tokens)
    assert len(text.lstrip("ef")) == room - 1
    assert not text.lstrip("ef").strip("gh")


def test_whole_canvases_are_complete_anyway() -> None:
    for most in (28, 33, 40, 64):
        own = [
            only(
                [3, 4],
                FULL_TRAITS,
                max_tokens=most,
                temperature=0.0,
                structured_outputs=StructuredOutputs(
                    json=CHAIN, disable_any_whitespace=True, complete=complete
                ),
            )
            for complete in (False, True)
        ]
        assert told(own[0]) == told(own[1])
        json.loads(text_of(own[0].tokens))


@pytest.mark.parametrize("left", [2, 5, 9, 17, 30])
def test_an_answer_that_was_begun_is_gone_on_with(left: int) -> None:
    text = '{"a":[{"a":[{"a":[],"b":0}],"b":0},{"a":[],"b":0}],"b":0}'
    ids = Spelling().encode(text, add_special=False)
    engine = make()
    asked = StructuredOutputs(json=CHAIN, disable_any_whitespace=True, complete=True)
    params = SamplingParams(max_tokens=left, seed=3, structured_outputs=asked)
    begun = len(ids) - left
    request = engine.add([1, *ids[:begun]], params, answered=begun)
    answer = drain(engine)[request]
    assert answer.error is None
    json.loads(text_of(ids[:begun] + list(answer.tokens)))


def test_a_stop_before_the_led_part_is_a_stop() -> None:
    commas = [i for i, name in enumerate(Spelling().vocabulary()) if b"," in name]
    asked = StructuredOutputs(json=SCHEMA, disable_any_whitespace=True, complete=True)
    closing = Spelling().encode("]", add_special=False)[0]
    for most in (39, 40, 47):
        for logprobs in (None, 1):
            answer = only(
                [3, 4, 5],
                max_tokens=most,
                temperature=0.0,
                logprobs=logprobs,
                stop_token_ids=commas,
                logit_bias={closing: 5.0},
                structured_outputs=asked,
            )
            assert answer.reason == FinishReason.STOP
            assert answer.stop_token in commas


def test_choices_and_forks_are_whole() -> None:
    engine = make()
    asked = StructuredOutputs(json=CHAIN, disable_any_whitespace=True, complete=True)
    params = SamplingParams(n=3, max_tokens=50, seed=1, logit_bias={EOS: -9.0, 10: 3.0}, structured_outputs=asked)  # fmt: skip
    first, answers = engine.add([3] * 40, params), dict[int, Answer]()
    for _ in range(6):
        step(engine, answers)
    before = list(answers[first].tokens)
    child = engine.fork(first, seed=9)
    drain(engine, answers)
    for i in range(3):
        json.loads(text_of(answers[first + i].tokens))
    json.loads(text_of(before + list(answers[child].tokens)))


def test_searches_that_fail_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []
    own = Completer.complete

    def noted(self: Completer, *given: Any) -> list[int] | None:
        tried.append(1)
        return own(self, *given)

    monkeypatch.setattr(Completer, "complete", noted)
    asked = StructuredOutputs(regex="[ab]{1200,}c", complete=True)
    answer = only([1], max_tokens=500, structured_outputs=asked)
    assert (answer.reason, len(answer.tokens)) == (FinishReason.LENGTH, 500)
    assert len(tried) == leading.MOST_MISSES
