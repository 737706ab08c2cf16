"""StructuredOutputs: exactly one thing is asked for, and it is what it says."""

from __future__ import annotations

from typing import Any

import pytest

from plait.core.errors import UserError
from plait.core.params import SamplingParams
from plait.core.structured import MAX_SOURCE_BYTES, StructuredOutputs


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "nothing given"),
        ({"regex": "a", "choice": ["a"]}, "regex and choice given"),
        ({"json": "{"}, "no JSON schema"),
        ({"json": "3"}, "no JSON schema but a int"),
        ({"json": {"a": {1, 2}}}, "no JSON schema"),
        ({"json": "[" * 100_000}, "no JSON schema"),
        ({"json": False}, "fitted by nothing"),
        ({"regex": 3}, "regex is a int"),
        ({"grammar": ["x"]}, "grammar is a list"),
        ({"json_object": "yes"}, "json_object is a str"),
        ({"choice": "ab"}, "no list of texts"),
        ({"choice": []}, "no list of texts"),
        ({"choice": ["a", ""]}, "no list of texts"),
        ({"choice": [1]}, "no list of texts"),
        ({"regex": "\ud800"}, "surrogate"),
        ({"regex": "a" * (MAX_SOURCE_BYTES + 1)}, "262,145 bytes long"),
        ({"choice": ["x" * 1000] * 263}, "263,000 bytes long"),
        ({"json": {"enum": ["x" * 1000] * 1000}}, "bytes long"),
        ({"regex": "a", "disable_any_whitespace": True}, "for JSON only"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        StructuredOutputs(**fields)


def test_a_schema_may_be_text_or_data() -> None:
    data = StructuredOutputs(json={"enum": ["é"]})
    assert data == StructuredOutputs(json='{"enum":["é"]}')
    assert (data.kind, data.texts) == ("json", ('{"enum": ["é"]}',))


def test_any_object_is_a_schema_too() -> None:
    asked = StructuredOutputs(json_object=True, disable_any_whitespace=True)
    assert (asked.kind, asked.texts) == ("json_object", ('{"type": "object"}',))


@pytest.mark.parametrize(
    "fields",
    [{"ignore_eos": True}, {"min_tokens": 1}, {"max_tokens": 0, "prompt_logprobs": 0}],
    ids=str,
)
def test_what_contradicts_a_grammar_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="no meaning with structured output"):
        SamplingParams(structured_outputs=StructuredOutputs(regex="a"), **fields)


def test_params_take_nothing_else() -> None:
    with pytest.raises(UserError, match="no StructuredOutputs"):
        SamplingParams(structured_outputs={"regex": "a"})  # type: ignore[arg-type]


@pytest.mark.parametrize("begins_at", [-1, 3, True, "1"])
def test_where_an_infill_begins_is_checked(begins_at: Any) -> None:
    def asked() -> SamplingParams:
        own = StructuredOutputs(regex="a", begins_at=begins_at)
        return SamplingParams(structured_outputs=own, infill=[(2, 4)])

    with pytest.raises(UserError, match="begins_at"):
        asked()


def test_where_a_text_begins_is_for_infills_only() -> None:
    with pytest.raises(UserError, match="begins_at=0 is no place"):
        SamplingParams(structured_outputs=StructuredOutputs(regex="a", begins_at=0))
