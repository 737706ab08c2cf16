"""Structured output on a canvas: in any order, between fixed text, and every document closes."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from functools import cache
from typing import Any

import jsonschema
import pytest

from plait.core.errors import UserError
from plait.core.params import SamplingParams
from plait.core.places import WITNESS, places
from plait.core.structured import StructuredOutputs
from plait.core.window import FinishReason
from plait.llm import LLM
from tests.engine.test_diffusion import NEXT
from tests.engine.test_structured import (
    ASKED,
    SPECIAL,
    Spelling,
    fits,
    make,
    requests,
    text_of,
    told,
)
from tests.engine.test_structured_block import RECORD, TRIMODE
from tests.fakes import EOS, FULL_TRAITS, Answer, drain, step
from tests.grammar.test_completing import can_be_completed, cases

WAYS: list[dict[str, Any]] = [
    {},
    {"decoder": "threshold", "options": {"threshold": "0.4", "block_size": "16"}},
    {
        "decoder": "threshold",
        "options": {"threshold": "1.1", "open_blocks": "1", "block_size": "8"},
    },
    {"decoder": "hierarchical", "options": {"reuse": "dual", "low_threshold": "0.2"}},
    {"decoder": "factor", "options": {"reuse": "vicinity", "block_size": "100"}},
    {"decoder": "fixed_steps", "options": {"steps": "6", "score": "random"}},
    {"decoder": "credit(threshold)", "options": {"reuse": "prefix"}},
    {"decoder": "anneal(hierarchical)", "options": {"early_stop": "false"}},
    {"decoder": "sample", "options": {"guidance": "0.5"}},
]


@cache
def asked_for() -> list[tuple[list[int], SamplingParams]]:
    """Every kind of request, with room for the longest document and little more."""
    return [(prompt, replace(params, max_tokens=40)) for prompt, params in requests()[5:18]]


def alone(traits: Any, **config: Any) -> list[tuple[Any, ...]]:
    found = []
    for prompt, params in asked_for():
        engine = make(traits=traits, **config)
        engine.add(prompt, params)
        found.append(told(drain(engine)[0]))
    return found


@pytest.mark.parametrize("config", [*WAYS, {"traits": NEXT}], ids=str)
def test_answers_fit_and_a_batch_is_its_requests_alone(config: dict[str, Any]) -> None:
    config = {"traits": FULL_TRAITS, **config}
    expected = alone(**config)
    for (_, params), (tokens, reason, _, error, _) in zip(asked_for(), expected, strict=True):
        if params.structured_outputs is None:
            continue
        assert (error, reason) == (None, FinishReason.STOP)
        assert not SPECIAL - {EOS} & set(tokens)
        assert EOS not in tokens[:-1]
        assert fits(params.structured_outputs, text_of(tokens)), text_of(tokens)
    engine = make(**config)
    ids = [engine.add(prompt, params) for prompt, params in asked_for()]
    answers = drain(engine)
    assert [told(answers[i]) for i in ids] == expected


@pytest.mark.parametrize("config", [WAYS[1], WAYS[3], WAYS[6]], ids=str)
def test_preempted_at_any_time_is_uninterrupted(config: dict[str, Any]) -> None:
    engine, rng = make(traits=FULL_TRAITS, **config), random.Random(11)
    ids = [engine.add(prompt, params) for prompt, params in asked_for()]
    answers: dict[int, Answer] = {}
    while engine.has_work:
        for request in rng.sample(ids, 3):
            engine.preempt(request)
        step(engine, answers)
    assert engine.metrics.num_preemptions > 10
    assert [told(answers[i]) for i in ids] == alone(FULL_TRAITS, **config)


@cache
def tight() -> list[tuple[SamplingParams, int]]:
    """Canvases with room for the shortest answers and for little more."""
    found = []
    for asked, _ in cases():
        state, length = make().constraining.state(SamplingParams(structured_outputs=asked)), 0
        assert state is not None
        for length in range(1, 40):
            try:
                make(traits=FULL_TRAITS).add(
                    [3], SamplingParams(max_tokens=length, structured_outputs=asked)
                )
            except UserError:
                continue
            break
        for more in (0, 2):
            params = SamplingParams(
                max_tokens=length + more, temperature=1.3, seed=more, structured_outputs=asked
            )
            found.append((params, length))
    return found


@pytest.mark.parametrize("config", [WAYS[0], WAYS[2], WAYS[5]], ids=str)
def test_every_state_can_be_completed(config: dict[str, Any]) -> None:
    """After each step, by trying everything, and also by the witness that the request keeps."""
    grammars = dict(cases())
    engine = make(traits=FULL_TRAITS, **config)
    for params, _ in tight():
        engine.add([2] * 11, params)
    answers: dict[int, Answer] = {}
    running = {request.seq.request_id: request for request in engine.requests}
    num_between = 0
    while engine.has_work:
        step(engine, answers)
        for request in engine.requests:
            seq, asked = request.seq, request.seq.params.structured_outputs
            assert asked is not None
            at = places(seq)._replace(first=seq.prompt_length)
            begun = seq.tokens[seq.prompt_length : seq.final].tolist()
            whole = at._replace(known=[*begun, *at.known])
            assert can_be_completed(grammars[asked], whole), (asked, whole)
            witness = seq.scratch[WITNESS].after(seq.final)
            assert all(k in (None, w) for k, w in zip(at.known, witness, strict=False))
            num_between += any(k is not None for k in at.known)
    assert num_between > 10 or config.get("options", {}).get("threshold") == "1.1"
    for key, request in running.items():
        assert answers[key].reason == FinishReason.STOP, (answers[key], request.seq.params)


SPELL = Spelling().encode


def filled(
    text: str, asked: StructuredOutputs, seed: int = 0, before: str = "", **config: Any
) -> tuple[str, Any]:
    """The text with what stands for each underscore, a token, and the reason why it ended."""
    ids, spans = SPELL(before, add_special=False), []
    begin = len(ids)
    for place, part in enumerate(text.split("_")):
        if place:
            spans.append((len(ids), len(ids) + 1))
            ids.append(0)
        ids += SPELL(part, add_special=False)
    merged: list[tuple[int, int]] = []
    for start, end in spans:
        if merged and merged[-1][1] == start:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    params = SamplingParams(
        temperature=1.0,
        seed=seed,
        infill=merged,
        structured_outputs=replace(asked, begins_at=begin),
    )
    engine = make(traits=FULL_TRAITS, **config)
    engine.add(ids, params)
    answer = drain(engine)[0]
    assert answer.error is None
    return text_of([*ids[begin : merged[0][0]], *answer.tokens]), answer.reason


@pytest.mark.parametrize("config", WAYS[:6], ids=str)
def test_stretches_between_fixed_text_fit(config: dict[str, Any]) -> None:
    asked = ASKED[0]
    for seed in range(3):
        found, reason = filled(
            '{"ab":[_____],"c":__,"defgh":"a___fgh"}', asked, seed, "ab12", **config
        )
        assert reason == FinishReason.STOP
        assert fits(asked, found), found
        assert json.loads(found)["defgh"] == "abcdefgh"
    texts = {filled("ab____c_9", ASKED[1], seed, **config)[0] for seed in range(8)}
    assert len(texts) > 1
    assert all(fits(ASKED[1], found) and found[-1] == "9" for found in texts)


def test_an_open_end_may_be_used_up_or_not() -> None:
    texts = {filled("ab__________", ASKED[1], seed, "c")[0] for seed in range(12)}
    assert all(fits(ASKED[1], found) for found in texts)
    assert len({len(found) for found in texts}) > 1


def test_a_text_that_does_not_end_with_its_answer_is_cut_behind_it() -> None:
    found, reason = filled("a_____________", StructuredOutputs(choice=["abc", "abcdefgh"]))
    assert (found in ("abc", "abcdefgh"), reason) == (True, FinishReason.STOP)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ab_3", "nothing was found for these stretches"),
        ("ab____cc", "nothing was found for these stretches"),
        ("x__", "does not fit its grammar"),
        ("ab_99a", "nothing was found for these stretches"),
    ],
)
def test_what_cannot_be_filled_is_refused(text: str, words: str) -> None:
    text = text.replace("x", "d")
    with pytest.raises(UserError, match=words):
        filled(text, ASKED[1])


def test_an_answer_that_has_no_room_is_refused() -> None:
    engine = make(traits=FULL_TRAITS)
    for asked in ASKED:
        params = SamplingParams(max_tokens=1, structured_outputs=asked)
        if asked.kind in ("json", "regex"):
            with pytest.raises(UserError, match="complete within 1 tokens") as caught:
                engine.add([1, 2], params)
            assert "max_tokens" in str(caught.value.hint)
    assert not engine.has_work


@pytest.mark.parametrize(
    ("decoder", "options"),
    [
        ("joint", {}),
        ("entropy_bound", {}),
        ("credit(entropy_bound)", {}),
        ("fixed_steps", {"score": "entropy"}),
        ("fixed_steps", {"score": "margin"}),
    ],
)
def test_decoders_that_cannot_keep_to_proposals_are_refused(
    decoder: str, options: dict[str, str]
) -> None:
    engine = make(traits=FULL_TRAITS)
    params = SamplingParams(structured_outputs=ASKED[0])
    with pytest.raises(UserError, match="cannot keep to a grammar together"):
        engine.add([1], params, decoder=decoder, options=options)


def test_choices_go_their_own_ways() -> None:
    engine = make(traits=FULL_TRAITS)
    params = SamplingParams(n=4, seed=3, max_tokens=30, structured_outputs=ASKED[1])
    engine.add([5, 6], params)
    answers = drain(engine)
    assert len({tuple(answer.tokens) for answer in answers.values()}) == 4
    assert all(fits(ASKED[1], text_of(answer.tokens)) for answer in answers.values())


def check_trimode(count: int, **options: str) -> float:
    """Documents at temperature 1, all valid; forwards per token."""
    asked = StructuredOutputs(json=RECORD, disable_any_whitespace=True)
    params = [
        SamplingParams(temperature=1.0, seed=i, max_tokens=96, structured_outputs=asked)
        for i in range(count)
    ]
    with LLM(TRIMODE, planner="canvas", max_num_seqs=8, options=options) as llm:
        outputs = llm.generate(["j="] * count, params)
    for output in outputs:
        (one,) = output.outputs
        assert (one.error, one.finish_reason) == (None, "stop")
        jsonschema.validate(json.loads(one.text), RECORD)
    assert len({output.outputs[0].text for output in outputs}) > count / 2
    tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
    return sum(output.metrics.num_forwards for output in outputs) / tokens


def test_documents_of_a_real_model_on_a_canvas_fit() -> None:
    assert check_trimode(6) < 0.6


def test_a_document_of_a_real_model_is_filled_in() -> None:
    with LLM(TRIMODE, planner="canvas") as llm:
        ids, open_spans = list[int](), []
        for part in ('j={"id":"', 3, '","n":', 2, ',"ok":', 4, ',"in":{"a":true,"b":"', 3, '"}}'):
            if isinstance(part, int):
                open_spans.append((len(ids), len(ids) + part))
                ids += [0] * part
            else:
                ids += llm.tokenizer.encode(part, add_special=False)
        begin = len(llm.tokenizer.encode("j=", add_special=False))
        asked = StructuredOutputs(json=RECORD, disable_any_whitespace=True, begins_at=begin)
        params = SamplingParams(seed=1, infill=open_spans, structured_outputs=asked)
        (output,) = llm.generate([{"prompt_token_ids": ids}], [params])
        (one,) = output.outputs
        text = llm.tokenizer.decode([*ids[begin : open_spans[0][0]], *one.token_ids])
    assert (one.error, one.finish_reason) == (None, "stop")
    jsonschema.validate(found := json.loads(text), RECORD)
    assert found["in"] == {"a": True, "b": "cde"}
    assert len(found["id"]) == 3


@pytest.mark.large
@pytest.mark.parametrize("threshold", ["0.5", "0.9", "1.1"])
def test_three_hundred_documents_on_a_canvas_fit(threshold: str) -> None:
    check_trimode(300, threshold=threshold)
