"""Structured output through the real `openai` client, and what of it is refused."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import jsonschema
import openai
import pytest

from plait import LLM, SamplingParams
from plait.core.structured import StructuredOutputs
from tests.grammar.cases import LARK, PERSON
from tests.grammar.test_llguidance import REFUSED
from tests.server.conftest import MODEL
from tests.server.running import Running

SAY: Any = [{"role": "user", "content": "Describe a person as JSON."}]
ASKED: dict[str, Any] = {"model": MODEL, "temperature": 1.0, "seed": 4, "max_tokens": 200}
STRICT: Any = {
    "type": "json_schema",
    "json_schema": {"name": "p", "strict": True, "schema": PERSON},
}


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as one:
        yield one


def test_a_chat_answers_in_a_schema_whole_and_streamed(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(messages=SAY, response_format=STRICT, **ASKED)
    text = str(whole.choices[0].message.content)
    assert whole.choices[0].finish_reason == "stop"
    jsonschema.validate(json.loads(text), PERSON)
    stream = client.chat.completions.create(
        messages=SAY, response_format=STRICT, stream=True, **ASKED
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == text


def test_free_text_around_what_is_not(client: openai.OpenAI) -> None:
    tag: dict[str, Any] = {"begin": "<age>", "schema": {"type": "integer", "maximum": 150, "minimum": 0}, "end": "</age>"}  # fmt: skip
    own = {
        "format": {
            "type": "triggered_tags",
            "triggers": ["<age>"],
            "at_least_one": True,
            "stop_after_first": True,
            "tags": [
                {
                    "begin": "<age>",
                    "content": {"type": "json_schema", "json_schema": tag["schema"]},
                    "end": "</age>",
                }
            ],
        }
    }
    asked: Any = [
        {"response_format": {"type": "structural_tag", "triggers": ["<age>"], "structures": [tag]}},
        {"response_format": {"type": "structural_tag", **own}},
        {"structured_outputs": {"structural_tag": json.dumps(own)}},
    ]
    for seed, fields in enumerate(asked):
        answer = client.chat.completions.create(
            messages=[{"role": "user", "content": "Say <age>12</age>, with your age."}],
            extra_body=fields,
            **(ASKED | {"seed": seed, "max_tokens": 60}),
        ).choices[0]
        text = str(answer.message.content)
        found = re.findall("<age>(.*?)</age>", text)
        assert all(0 <= int(age) <= 150 for age in found)
        if seed and answer.finish_reason == "stop":
            assert len(found) == 1
            assert text.endswith("</age>")


def test_any_object(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        messages=SAY, response_format={"type": "json_object"}, **ASKED
    )
    text = str(answer.choices[0].message.content)
    assert answer.choices[0].finish_reason == "length" or isinstance(json.loads(text), dict)
    assert text.startswith("{")


def test_a_document_that_is_cut_says_so(client: openai.OpenAI) -> None:
    short = ASKED | {"max_tokens": 4}
    answer = client.chat.completions.create(messages=SAY, response_format=STRICT, **short)
    assert answer.choices[0].finish_reason == "length"


@pytest.mark.parametrize("most", [30, 60])
def test_a_document_is_led_to_its_end(client: openai.OpenAI, most: int) -> None:
    """Lists without an end, at a high temperature."""
    endless = {"type": "array", "items": {"$ref": "#"}, "minItems": 1, "maxItems": 3}
    schema = {"anyOf": [endless, {"type": "integer", "minimum": 0, "maximum": 9}]}
    asked = ASKED | {"max_tokens": most}
    fields = [
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "l", "schema": schema},
            },
            "structured_outputs": {"complete": True},
        },
        {"structured_outputs": {"json": schema, "complete": True}},
        {"guided_json": schema, "structured_outputs": {"complete": True}},
    ]
    texts = set()
    for own in fields:
        answer = client.chat.completions.create(messages=SAY, extra_body=own, **asked)
        text = answer.choices[0].message.content or ""
        jsonschema.validate(json.loads(text), schema)
        texts.add((text, answer.choices[0].finish_reason))
    assert len(texts) == 1


EXTRAS: list[tuple[dict[str, Any], str]] = [
    ({"guided_choice": ["red", "green"]}, "red|green"),
    ({"guided_regex": "[a-f]{3}[0-9]"}, "[a-f]{3}[0-9]"),
    ({"guided_grammar": 'root ::= "x" ("y" | "z")'}, "x[yz]"),
    ({"guided_json": {"enum": [1, "a"]}}, '1|"a"'),
    ({"guided_json": '{"const": 7}'}, "7"),
    ({"structured_outputs": {"choice": ["red", "green"]}}, "red|green"),
    ({"structured_outputs": {"regex": "[0-9]{4}"}}, "[0-9]{4}"),
    ({"structured_outputs": {"json": {"type": "boolean"}}}, "true|false"),
    ({"structured_outputs": {"grammar": LARK, "json_object": None}}, r"[0-9()+日]+"),
]


@pytest.mark.parametrize(("fields", "expression"), EXTRAS, ids=str)
def test_the_extras_of_vllm(client: openai.OpenAI, fields: dict[str, Any], expression: str) -> None:
    answer = client.completions.create(prompt="It is", extra_body=fields, **ASKED)
    assert re.fullmatch(expression, answer.choices[0].text)


def test_an_answer_over_http_is_the_offline_one(client: openai.OpenAI, llm: LLM) -> None:
    asked = StructuredOutputs(json=PERSON)
    params = SamplingParams(temperature=1.0, seed=4, max_tokens=200, structured_outputs=asked)
    (output,) = llm.chat(SAY, params)
    answer = client.chat.completions.create(messages=SAY, response_format=STRICT, **ASKED)
    assert answer.choices[0].message.content == output.outputs[0].text


def test_a_response_in_a_schema(client: openai.OpenAI) -> None:
    flat: Any = {"format": {"type": "json_schema", "name": "p", "schema": PERSON, "strict": True}}
    answer = client.responses.create(
        model=MODEL, input="A person", text=flat, max_output_tokens=200, temperature=0
    )
    jsonschema.validate(json.loads(answer.output_text), PERSON)
    assert answer.text is not None
    assert answer.text.format is not None
    assert answer.text.format.type == "json_schema"


@pytest.mark.parametrize("fields", REFUSED.values(), ids=REFUSED)
def test_hostile_grammars_are_refused_and_everybody_else_is_served(
    client: openai.OpenAI, fields: dict[str, Any]
) -> None:
    begin = time.perf_counter()
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(prompt="x", extra_body={"structured_outputs": fields}, **ASKED)
    assert next(iter(fields)) in str(caught.value)
    assert time.perf_counter() - begin < 60
    assert client.completions.create(prompt="x", model=MODEL, max_tokens=1).choices


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"structured_outputs": {"choice": [f"{i:0160}" for i in range(7000)]}}, "at most"),
        ({"structured_outputs": {}}, "nothing given"),
        ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "regex and choice"),
        ({"guided_regex": "a", "guided_choice": ["a"]}, "regex and choice"),
        ({"guided_regex": "a", "response_format": {"type": "json_object"}}, "contradict"),
        ({"guided_regex": "a", "ignore_eos": True}, "ignore_eos"),
        ({"structured_outputs": {"complete": True}}, "complete goes with"),
        ({"structured_outputs": {"regex": "a", "complete": "so"}}, "complete"),
        ({"response_format": {"type": "json_schema"}}, "json_schema"),
        ({"response_format": {"type": "structural_tag"}}, "triggers is no list"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_contradicts_itself_is_refused(
    client: openai.OpenAI, fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=words):
        client.completions.create(prompt="x", extra_body=fields, **ASKED)
