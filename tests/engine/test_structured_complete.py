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
from tests.engine.test_structured import make, step, text_of, told
from tests.fakes import BLOCK_TRAITS, EOS, Answer, drain

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
