"""Documents of real models fit their schemas, whatever the schema, and however they are run."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jsonschema
import pytest

from plait.core.params import SamplingParams
from plait.core.structured import StructuredOutputs
from plait.llm import LLM
from tests.engine.schemas import SCHEMAS

MODELS = ["smollm2-135m", "qwen2.5-coder-1.5b"]
WAYS: list[dict[str, Any]] = [
    {"max_num_seqs": 1, "proposer": "none"},
    {"max_num_seqs": 16, "proposer": "none"},
    {"max_num_seqs": 1, "proposer": "lookahead"},
    {"max_num_seqs": 16, "proposer": "lookahead"},
]


def asked(count: int) -> list[tuple[dict[str, Any], SamplingParams]]:
    """The schemas in turn, at temperature 1; every second without whitespace."""
    found = []
    for i in range(count):
        schema = SCHEMAS[i % len(SCHEMAS)]
        wanted = StructuredOutputs(json=schema, disable_any_whitespace=i % 2 == 0)
        params = SamplingParams(temperature=1.0, seed=i, max_tokens=400, structured_outputs=wanted)
        found.append((schema, params))
    return found


def documents(llm: LLM, count: int) -> list[str]:
    """Texts of answers; those that are complete are checked. Raises ValidationError."""
    requests = asked(count)
    messages = [[{"role": "user", "content": f"Example number {i}, short."}] for i in range(count)]
    outputs = llm.chat(messages, [params for _, params in requests])
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    num_complete = 0
    for (schema, _), output in zip(requests, outputs, strict=True):
        (one,) = output.outputs
        assert one.error is None, (schema, one.error)
        if one.finish_reason == "stop":
            jsonschema.validate(json.loads(one.text), schema, format_checker=checker)
            num_complete += 1
        else:
            assert one.finish_reason == "length"
            assert len(one.token_ids) == 400
    # Some schemas let a document go on for ever: a number's digits, a chain of objects.
    assert count - num_complete <= max(1, count // 10)
    return [output.outputs[0].text for output in outputs]


@pytest.mark.timeout(300)
def test_a_part_of_the_logits_gives_the_same_answer() -> None:
    """With log-probabilities asked for every logit is computed, and nothing is jumped over."""
    kinds: list[dict[str, Any]] = [{"temperature": 0.0}, {"temperature": 1.0, "top_k": 8}]
    requests = []
    for i in range(6):
        wanted = StructuredOutputs(json=SCHEMAS[(0, 56, 59, 60)[i % 4]])
        params = SamplingParams(seed=i, max_tokens=40, structured_outputs=wanted, **kinds[i % 2])
        requests.append(params)
    prompts = [f"{i} examples of JSON:" for i in range(len(requests))]
    with LLM(MODELS[0], max_model_len=256) as llm:
        found = llm.generate(prompts, requests)
        counters = llm.counters
        whole = llm.generate(prompts, [replace(params, logprobs=0) for params in requests])
    assert [o.outputs[0].token_ids for o in found] == [o.outputs[0].token_ids for o in whole]
    assert counters["head_rows"] > 5
    assert counters["head_narrow"] > 20


@pytest.mark.large
def test_documents_fit() -> None:
    with LLM(MODELS[0], max_model_len=1024, max_num_seqs=8) as llm:
        documents(llm, 8)


@pytest.mark.large
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("model", MODELS)
def test_three_hundred_documents_fit_however_they_are_run(model: str) -> None:
    found = []
    for way in WAYS:
        with LLM(model, max_model_len=1024, **way) as llm:
            found.append(documents(llm, 300))
    assert all(each == found[0] for each in found)
