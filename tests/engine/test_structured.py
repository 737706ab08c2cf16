"""Structured output in the engine, over a model without weights: whatever else happens, the same tokens, and they fit."""

from __future__ import annotations

import json
import random
import re
import threading
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from plait.core.config import EngineConfig
from plait.core.errors import UserError
from plait.core.params import SamplingParams
from plait.core.structured import StructuredOutputs
from plait.core.window import FinishReason
from plait.engine.build import assemble
from plait.engine.engine import Engine
from plait.grammar.llguidance import State
from plait.iteration import constraining
from plait.kvcache.pool import Pool
from tests.fakes import (
    BLOCK_TRAITS,
    CAUSAL_TRAITS,
    EOS,
    FULL_TRAITS,
    LAYOUT,
    VOCAB,
    Answer,
    FakeRunner,
    drain,
    step,
)

SPELT = [
    *'{}[]:, "',
    *"abcdefgh0123456789\n",
    '{"',
    '":',
    '",',
    '"}',
    '"a',
    "ab",
    "bc",
    "12",
    "true",
]
SPECIAL = frozenset({EOS, *range(len(SPELT) + 1, VOCAB)})


class Spelling:
    """A vocabulary of 61 tokens; the longest fits first. The end has the id that the fakes give it."""

    special_ids = SPECIAL

    def vocabulary(self) -> list[bytes]:
        names = [name.encode() for name in SPELT]
        names.insert(EOS, b"<end>")
        return names + [f"<{i}>".encode() for i in range(len(names), VOCAB)]

    def encode(self, text: str, *, add_special: bool) -> list[int]:
        assert not add_special
        ids, names = [], {name: i for i, name in enumerate(self.vocabulary()) if i not in SPECIAL}
        data = text.encode()
        while data:
            name = max((n for n in names if data.startswith(n)), key=len)
            ids.append(names[name])
            data = data[len(name) :]
        return ids


def text_of(tokens: list[int]) -> str:
    names = Spelling().vocabulary()
    return b"".join(names[t] for t in tokens if t not in SPECIAL).decode()


def make(num_pages: int = 64, traits: Any = CAUSAL_TRAITS, **config: Any) -> Engine:
    pool = Pool(LAYOUT, num_pages)
    runner = FakeRunner(pool, traits)
    return assemble(EngineConfig("fake", **config), runner, traits, pool, lexicon=Spelling)


SCHEMA = {
    "type": "object",
    "properties": {
        "ab": {"type": "array", "items": {"enum": ["a", "bc", "cab"]}, "maxItems": 3},
        "c": {"type": "integer", "minimum": 0, "maximum": 99},
        "defgh": {"const": "abcdefgh"},
    },
    "required": ["ab", "c", "defgh"],
    "additionalProperties": False,
}
ASKED = [
    StructuredOutputs(json=SCHEMA, disable_any_whitespace=True),
    StructuredOutputs(regex="(ab|c){3,9}[0-9]{2}"),
    StructuredOutputs(choice=["abcdefgh", "abc", "12"]),
    StructuredOutputs(grammar='start: item\nitem: "[" (item ("," item)*)? "]" | /0|[1-9][0-9]?/'),
]


def fits(asked: StructuredOutputs, text: str) -> bool:
    if asked.kind == "json":
        found = json.loads(text)
        is_list = set(found["ab"]) <= {"a", "bc", "cab"} and len(found["ab"]) <= 3
        return list(found) == ["ab", "c", "defgh"] and is_list and 0 <= found["c"] <= 99
    if asked.kind == "regex":
        return bool(re.fullmatch(str(asked.regex), text))
    if asked.kind == "choice":
        return text in (asked.choice or ())
    return isinstance(json.loads(text), list | int)


@cache
def requests() -> list[tuple[list[int], SamplingParams]]:
    """Greedy and sampled, with filters, penalties and a bias; every third without a grammar; prompts around pages."""
    rng = random.Random(5)
    kinds: list[dict[str, Any]] = [
        {"temperature": 0.0},
        {"temperature": 1.0},
        {"temperature": 1.5, "top_k": 3, "top_p": 0.9},
        {"temperature": 1.0, "min_p": 0.05, "frequency_penalty": 0.5},
        {"temperature": 0.0, "repetition_penalty": 1.3, "logprobs": 2},
        {"temperature": 0.7, "logit_bias": {10: -5.0, 1: 3.0}},
    ]
    found = []
    for i in range(24):
        asked = None if i % 3 == 2 else ASKED[i // 3 % len(ASKED)]
        params = SamplingParams(
            max_tokens=90, seed=i, structured_outputs=asked, **kinds[i % len(kinds)]
        )
        prompt = [rng.randrange(VOCAB - 1) for _ in range((1, 9, 31, 32, 33, 100)[i // 4])]
        found.append((prompt, params))
    return found


def told(answer: Answer) -> tuple[Any, ...]:
    return answer.tokens, answer.reason, answer.stop_token, answer.error, answer.logprobs


@cache
def expected() -> list[tuple[Any, ...]]:
    """Each request alone, in an engine of its own."""
    found = []
    for prompt, params in requests():
        engine = make()
        found.append(told(drain(engine)[0] if engine.add(prompt, params) == 0 else Answer()))
    return found


def test_answers_fit() -> None:
    for (_, params), (tokens, reason, stop, error, _) in zip(requests(), expected(), strict=True):
        if params.structured_outputs is None:
            continue
        assert error is None
        assert reason == FinishReason.STOP or len(tokens) == params.max_tokens
        if reason == FinishReason.STOP:
            assert fits(params.structured_outputs, text_of(tokens)), text_of(tokens)
            assert (stop == EOS) == (tokens[-1] == EOS)
        assert not SPECIAL - {EOS} & set(tokens)
        assert EOS not in tokens[:-1]


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"max_num_batched_tokens": 8},
        {"max_num_seqs": 3},
        {"num_pages": 14, "max_num_batched_tokens": 48},
        {"proposer": "lookahead", "options": {"width": "5"}},
        {"proposer": "lookahead", "options": {"width": "8", "branches": "3"}},
        {"enable_prefix_caching": False},
        {"quick": 0.0},
        {"quick": 0.0, "proposer": "lookahead", "options": {"width": "4", "branches": "2"}},
    ],
    ids=str,
)
def test_how_it_is_run_makes_no_difference(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dict(config)
    monkeypatch.setattr(constraining, "QUICK", config.pop("quick", constraining.QUICK))
    engine = make(**config)
    ids = [engine.add(prompt, params) for prompt, params in requests()]
    answers = drain(engine)
    assert [told(answers[i]) for i in ids] == expected()
    if "proposer" in config:
        assert engine.metrics.num_accepted > 0


def test_preempted_at_any_time_is_uninterrupted() -> None:
    engine, rng = make(), random.Random(11)
    ids = [engine.add(prompt, params) for prompt, params in requests()]
    answers: dict[int, Answer] = {}
    while engine.has_work:
        for request in rng.sample(ids, 3):
            engine.preempt(request)
        step(engine, answers)
    assert engine.metrics.num_preemptions > 20
    assert [told(answers[i]) for i in ids] == expected()


def test_what_is_certain_costs_no_forward() -> None:
    engine = make(proposer="none")
    asked = StructuredOutputs(regex="[ab]cdefgh,cdefgh[01]")
    params = SamplingParams(temperature=0.0, max_tokens=40, structured_outputs=asked)
    jumping = engine.add([1, 2, 3], params)
    walking = engine.add([1, 2, 3], replace(params, logprobs=0))
    answers = drain(engine)
    assert answers[jumping].tokens == answers[walking].tokens
    fast, slow = answers[jumping].metrics, answers[walking].metrics
    assert fast is not None
    assert slow is not None
    assert fast.num_forced > 10
    assert fast.num_forwards <= 3
    assert (slow.num_forced, slow.num_forwards) == (0, len(answers[walking].tokens))


def test_an_answer_that_is_cut_says_so() -> None:
    engine = make()
    asked = StructuredOutputs(choice=["abcdefgh"])
    short, exact = (
        engine.add([1], SamplingParams(max_tokens=most, structured_outputs=asked))
        for most in (3, len(Spelling().encode("abcdefgh", add_special=False)))
    )
    answers = drain(engine)
    assert answers[short].reason == FinishReason.LENGTH
    assert len(answers[short].tokens) == 3
    assert answers[exact].reason == FinishReason.STOP
    assert text_of(answers[exact].tokens) == "abcdefgh"


def test_several_choices_each_have_a_place_of_their_own() -> None:
    engine = make()
    params = SamplingParams(
        n=6, max_tokens=60, temperature=2.0, seed=1, structured_outputs=ASKED[1]
    )
    first = engine.add([3] * 40, params)
    answers = drain(engine)
    texts = [text_of(answers[first + i].tokens) for i in range(6)]
    assert all(fits(ASKED[1], text) for text in texts)
    assert len(set(texts)) > 2


def test_a_fork_goes_on_in_its_own_place() -> None:
    engine = make()
    params = SamplingParams(max_tokens=60, temperature=2.0, seed=1, structured_outputs=ASKED[1])
    parent, answers = engine.add([3] * 40, params), dict[int, Answer]()
    for _ in range(4):
        step(engine, answers)
    before = list(answers[parent].tokens)
    child = engine.fork(parent, seed=9)
    drain(engine, answers)
    assert fits(ASKED[1], text_of(answers[parent].tokens))
    assert fits(ASKED[1], text_of(before + answers[child].tokens))


def test_a_failing_mask_ends_its_request_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make()
    bad = engine.add([1], SamplingParams(structured_outputs=ASKED[1]))
    good = engine.add([1], SamplingParams(structured_outputs=ASKED[2], seed=1))

    def fail() -> None:
        raise UserError("the grammar takes too much: it is a test")

    (request,) = [r for r in engine.requests if r.seq.request_id == bad]
    monkeypatch.setattr(request.grammar, "_compute", fail)
    answers = drain(engine)
    assert answers[bad].reason == FinishReason.ERROR
    assert "it is a test" in str(answers[bad].error)
    assert text_of(answers[good].tokens) in (ASKED[2].choice or ())


def test_a_stop_token_ends_it_where_the_grammar_allows_that_token() -> None:
    engine = make()
    digit = Spelling().encode("1", add_special=False)[0]
    asked = StructuredOutputs(regex="a1b")
    request = engine.add([1], SamplingParams(structured_outputs=asked, stop_token_ids=[digit]))
    answer = drain(engine)[request]
    assert answer.reason == FinishReason.STOP
    assert answer.stop_token == digit


@pytest.mark.parametrize(
    ("config", "choices"),
    [
        ({"traits": FULL_TRAITS}, {"decoder": "entropy_bound"}),
        ({"traits": BLOCK_TRAITS}, {"decoder": "factor"}),
        ({"traits": BLOCK_TRAITS}, {"decoder": "joint"}),
        ({}, {"decoder": "threshold"}),
    ],
    ids=str,
)
def test_ways_of_generating_that_cannot_are_refused(
    config: dict[str, Any], choices: dict[str, Any]
) -> None:
    engine = make(**config)
    with pytest.raises(UserError, match="cannot keep to a grammar together"):
        engine.add([1], SamplingParams(structured_outputs=ASKED[1]), **choices)
    assert not engine.has_work


def test_an_engine_without_a_tokenizer_refuses() -> None:
    pool = Pool(LAYOUT, 4)
    runner = FakeRunner(pool, CAUSAL_TRAITS)
    engine = assemble(EngineConfig("fake"), runner, CAUSAL_TRAITS, pool)
    with pytest.raises(UserError, match="needs a tokenizer"):
        engine.add([1], SamplingParams(structured_outputs=ASKED[1]))


def test_masks_that_take_long_are_filled_in_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []
    compute = State._compute

    def noted(state: State) -> None:
        threads.append(threading.current_thread().name)
        compute(state)

    monkeypatch.setattr(State, "_compute", noted)
    prompt, params = requests()[0]
    found = []
    for quick in (0.0, np.inf):
        monkeypatch.setattr(constraining, "QUICK", quick)
        threads.clear()
        engine = make()
        request = engine.add(prompt, params)
        found.append(told(drain(engine)[request]))
        # The first is filled where the request comes in.
        assert all(("plait-masks" in name) == (quick == 0.0) for name in threads[1:])
        assert len(threads) > 5
    assert found == [expected()[0]] * 2
