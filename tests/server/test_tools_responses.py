"""Tools in /v1/responses through the real `openai` client: whole and streamed, several calls, two steps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import openai
import pytest

from tests.server.conftest import MODEL
from tests.server.running import Running
from tests.server.test_tools import SCHEMAS, TOOLS

FLAT: Any = [{"type": "function", **tool["function"]} for tool in TOOLS]
ASKED: dict[str, Any] = {
    "model": MODEL, "temperature": 0, "max_output_tokens": 120, "tools": FLAT,
    "input": "What is 12 + 30?",
}  # fmt: skip


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as one:
        yield one


def varied(number: int, **fields: Any) -> dict[str, Any]:
    """The endpoint takes no seed; greedy answers of several inputs."""
    return {**ASKED, "input": f"What is {number} + 30? And the weather?", **fields}


def calls_of(response: Any) -> list[Any]:
    return [item for item in response.output if item.type == "function_call"]


def check(calls: list[Any]) -> None:
    for call in calls:
        if call.status == "completed":
            jsonschema.validate(json.loads(call.arguments), SCHEMAS[call.name])


def test_calls_that_are_demanded_always_fit(client: openai.OpenAI) -> None:
    counts = set()
    for seed in range(5):
        answer = client.responses.create(tool_choice="required", **varied(seed))
        calls = calls_of(answer)
        assert [item.type for item in answer.output] == ["function_call"] * len(calls)
        assert all(call.status == "completed" for call in calls[:-1])
        check(calls)
        counts.add(len(calls))
    assert max(counts) > 1
    one = client.responses.create(
        tool_choice="required", parallel_tool_calls=False, **varied(1, max_output_tokens=200)
    )
    assert (one.status, len(calls_of(one)), one.parallel_tool_calls) == ("completed", 1, False)
    check(calls_of(one))


@pytest.mark.parametrize("choice", ["required", "auto"])
def test_a_stream_has_the_same_items(client: openai.OpenAI, choice: Any) -> None:
    whole = client.responses.create(tool_choice=choice, **varied(3))
    texts, added, done = dict[int, str](), list[str](), list[Any]()
    for event in client.responses.create(tool_choice=choice, stream=True, **varied(3)):
        match event.type:
            case "response.output_item.added":
                added.append(event.item.type)
            case "response.function_call_arguments.delta" | "response.output_text.delta":
                texts[event.output_index] = texts.get(event.output_index, "") + event.delta
            case "response.function_call_arguments.done":
                assert event.arguments == texts.get(event.output_index, "")
            case "response.output_item.done":
                done.append(event.item)
            case "response.completed" | "response.incomplete":
                last = event.response
    assert added == [item.type for item in whole.output] == [item.type for item in done]
    assert last.status == whole.status
    for one, other, place in zip(last.output, whole.output, range(len(added)), strict=True):
        told = other.arguments if other.type == "function_call" else other.content[0].text
        assert texts.get(place, "") == told
        assert one.to_dict() == done[place].to_dict()
        assert one.status == other.status


def test_the_result_of_a_named_call_is_read(client: openai.OpenAI) -> None:
    asked = varied(1)
    first = client.responses.create(
        tool_choice={"type": "function", "name": "add"}, parallel_tool_calls=False, **asked
    )
    (call,) = calls_of(first)
    assert call.name == "add"
    history: Any = [
        {"role": "user", "content": ASKED["input"]},
        *(item.to_dict() for item in first.output),
        {"type": "function_call_output", "call_id": call.call_id, "output": "42"},
    ]
    second = client.responses.create(tool_choice="none", **{**asked, "input": history})
    assert [item.type for item in second.output] == ["message"]
    assert second.output_text
    bare = client.responses.create(
        tool_choice="none", **{**asked, "input": history[:1], "max_output_tokens": 1}
    )
    assert second.usage is not None
    assert bare.usage is not None
    assert second.usage.input_tokens > bare.usage.input_tokens + 20


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"tool_choice": {"type": "function", "name": "nobody"}}, "no tool is called"),
    ({"tools": [*FLAT, FLAT[0]]}, "two of one name"),
    ({"tools": [], "tool_choice": "required"}, "needs tools"),
    ({"include": ["message.output_text.logprobs"]}, "no meaning with tools"),
    ({"text": {"format": {"type": "json_object"}}}, "contradict"),
    ({"tools": [{"type": "web_search"}]}, "tools"),
    ({"max_tool_calls": 3}, "max_tool_calls"),
    ({"input": [{"type": "function_call", "name": "add"}]}, "input"),
    ({"input": [{"type": "reasoning"}]}, "input"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "words"), REFUSED, ids=lambda value: str(value)[:50])
def test_what_cannot_be_is_refused(
    client: openai.OpenAI, fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=words):
        client.responses.create(**{**ASKED, **fields})
