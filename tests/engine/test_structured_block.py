"""Structured output of models that decide blocks: what is written fits, whatever else happens."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from plait.core.errors import UserError
from plait.core.params import SamplingParams
from plait.core.structured import StructuredOutputs
from plait.core.window import FinishReason
from plait.llm import LLM
from tests.engine.test_diffusion import BLOCK_NEXT
from tests.engine.test_structured import ASKED, SPECIAL, fits, make, requests, text_of, told
from tests.fakes import BLOCK_TRAITS, EOS, Answer, drain, step

TRIMODE = str(Path(__file__).parents[2] / "models" / "trimode")
RECORD: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "pattern": "^[a-f]{2,5}$"},
        "n": {"type": "integer", "minimum": 0, "maximum": 999},
        "ok": {"enum": [True, False, None, "x"]},
        "in": {
            "anyOf": [
                {"type": "null"},
                {
                    "type": "object",
                    "properties": {"a": {"type": "boolean"}, "b": {"const": "cde"}},
                    "required": ["a"],
                    "additionalProperties": False,
                },
            ]
        },
    },
    "required": ["id", "n", "ok", "in"],
    "additionalProperties": False,
}
"""In the letters of `trimode`, which has no brackets."""


@pytest.fixture(params=[BLOCK_TRAITS, BLOCK_NEXT], ids=["block", "block, next"])
def traits(request: pytest.FixtureRequest) -> Any:
    return request.param


def alone(traits: Any, **options: Any) -> list[tuple[Any, ...]]:
    found = []
    for prompt, params in requests():
        engine = make(traits=traits, **options)
        engine.add(prompt, params)
        found.append(told(drain(engine)[0]))
    return found


def test_answers_fit_and_a_batch_is_its_requests_alone(traits: Any) -> None:
    expected = alone(traits)
    num_ended = 0
    for (_, params), (tokens, reason, _, error, _) in zip(requests(), expected, strict=True):
        assert error is None
        if params.structured_outputs is None:
            continue
        assert not SPECIAL - {EOS} & set(tokens)
        assert EOS not in tokens[:-1]
        if reason == FinishReason.STOP:
            assert fits(params.structured_outputs, text_of(tokens)), text_of(tokens)
            num_ended += 1
        else:
            assert len(tokens) == params.max_tokens
    assert num_ended > 8
    engine = make(traits=traits)
    ids = [engine.add(prompt, params) for prompt, params in requests()]
    answers = drain(engine)
    assert [told(answers[i]) for i in ids] == expected


def test_preempted_at_any_time_is_uninterrupted(traits: Any) -> None:
    engine, rng = make(traits=traits), random.Random(11)
    ids = [engine.add(prompt, params) for prompt, params in requests()]
    answers: dict[int, Answer] = {}
    while engine.has_work:
        for request in rng.sample(ids, 3):
            engine.preempt(request)
        step(engine, answers)
    assert engine.metrics.num_preemptions > 20
    assert [told(answers[i]) for i in ids] == alone(traits)


def test_what_is_certain_is_written_together() -> None:
    engine = make(traits=BLOCK_TRAITS)
    asked = StructuredOutputs(regex="[ab]cdefgh,cdefgh[01]")
    request = engine.add([1] * 8, SamplingParams(max_tokens=40, structured_outputs=asked))
    answer = drain(engine)[request]
    assert answer.reason == FinishReason.STOP
    assert answer.metrics is not None
    assert answer.metrics.num_forwards < len(answer.tokens)


def test_every_written_beginning_can_be_completed() -> None:
    """After each step what is final, and nothing else, is told to the grammar."""
    engine = make(traits=BLOCK_TRAITS)
    asked = SamplingParams(max_tokens=60, temperature=1.5, seed=3, structured_outputs=ASKED[0])
    engine.add([2] * 11, asked)
    answers: dict[int, Answer] = {}
    compiler_state = engine.constraining.state(asked)
    assert compiler_state is not None
    (request,) = engine.requests
    while engine.has_work:
        step(engine, answers)
        seq = request.seq
        open_places = seq.masked[seq.prompt_length :]
        first = int(open_places.argmax()) if open_places.any() else len(open_places)
        assert open_places[first:].all()
        written = seq.tokens[seq.prompt_length :][:first].tolist()
        fresh = compiler_state.fork()
        assert fresh.replay(written) == len(written)


def check_trimode(count: int, **options: str) -> float:
    """Documents at temperature 1, all valid; forwards per token."""
    asked = StructuredOutputs(json=RECORD, disable_any_whitespace=True)
    params = [
        SamplingParams(temperature=1.0, seed=i, max_tokens=240, structured_outputs=asked)
        for i in range(count)
    ]
    with LLM(TRIMODE, planner="block", max_num_seqs=8, options=options) as llm:
        outputs = llm.generate(["j="] * count, params)
    for output in outputs:
        (one,) = output.outputs
        assert (one.error, one.finish_reason) == (None, "stop")
        jsonschema.validate(json.loads(one.text), RECORD)
    assert len({output.outputs[0].text for output in outputs}) > count / 2
    tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
    return sum(output.metrics.num_forwards for output in outputs) / tokens


def test_documents_of_a_real_model_in_blocks_fit() -> None:
    assert check_trimode(10) < 0.9


def test_what_the_tokenizer_cannot_spell_is_an_error() -> None:
    def told(llm: LLM, **fields: Any) -> str:
        wanted = SamplingParams(structured_outputs=StructuredOutputs(**fields))
        try:
            return str(llm.generate(["j="], [wanted])[0].outputs[0].error)
        except UserError as error:
            return error.message

    for planner in ("block", "autoregressive"):
        with LLM(TRIMODE, planner=planner) as llm:
            assert "cannot spell" in told(llm, choice=["[]"])
            assert "cannot spell" in told(llm, json={"type": "array"})


@pytest.mark.large
@pytest.mark.parametrize("threshold", ["0.5", "0.9", "1.1"])
def test_three_hundred_documents_in_blocks_fit(threshold: str) -> None:
    check_trimode(300, threshold=threshold)
