"""Tool calls through the real `openai` client: chosen or demanded, one or several, whole and streamed, two steps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import openai
import pytest

from tests.server.conftest import MODEL
from tests.server.running import Running

PLACE: dict[str, Any] = {
    "type": "object",
    "properties": {"place": {"type": "string", "maxLength": 20}, "days": {"enum": [1, 2, 3]}},
    "required": ["place", "days"],
    "additionalProperties": False,
}
SUM: dict[str, Any] = {
    "type": "object",
    "properties": {
        "a": {"type": "integer", "maximum": 999},
        "b": {"type": "integer", "maximum": 999},
    },
    "required": ["a", "b"],
    "additionalProperties": False,
}
SCHEMAS = {"get_weather": PLACE, "add": SUM, "clock": {"type": "object", "maxProperties": 0}}
TOOLS: Any = [
    {"type": "function", "function": {"name": "get_weather", "parameters": PLACE, "description": "Of a place."}},
    {"type": "function", "function": {"name": "add", "parameters": SUM, "strict": True}},
    {"type": "function", "function": {"name": "clock"}},
]  # fmt: skip
SAY: Any = [{"role": "user", "content": "What is 12 + 30?"}]
ASKED: dict[str, Any] = {"model": MODEL, "temperature": 1.0, "max_tokens": 200, "tools": TOOLS}


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as one:
        yield one


def check(calls: Any) -> None:
    for call in calls:
        jsonschema.validate(json.loads(call.function.arguments), SCHEMAS[call.function.name])


@pytest.mark.parametrize("seed", range(5))
def test_a_call_that_is_demanded_always_fits(client: openai.OpenAI, seed: int) -> None:
    answer = client.chat.completions.create(
        messages=SAY, tool_choice="required", parallel_tool_calls=False, seed=seed, **ASKED
    )
    (choice,) = answer.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    assert choice.message.tool_calls is not None
    assert len(choice.message.tool_calls) == 1
    check(choice.message.tool_calls)


def test_a_stream_has_the_same_calls(client: openai.OpenAI) -> None:
    asked = ASKED | {"tool_choice": "required", "seed": 3, "max_tokens": 120, "messages": SAY}
    whole = client.chat.completions.create(**asked).choices[0]
    names, arguments, ids, reason = list[str](), dict[int, str](), set[str](), None
    num_pieces = 0
    for chunk in client.chat.completions.create(stream=True, **asked):
        reason = chunk.choices[0].finish_reason or reason
        for delta in chunk.choices[0].delta.tool_calls or ():
            assert delta.function is not None
            if delta.id:
                ids.add(delta.id)
                assert delta.function.name is not None
                names.append(delta.function.name)
            arguments[delta.index] = arguments.get(delta.index, "") + (
                delta.function.arguments or ""
            )
            num_pieces += 1
    assert whole.message.tool_calls is not None
    assert names == [call.function.name for call in whole.message.tool_calls]
    assert [*arguments.values()] == [call.function.arguments for call in whole.message.tool_calls]
    assert reason == whole.finish_reason
    assert len(ids) == len(names)
    assert num_pieces > len(names)


def test_the_tool_that_was_named_is_called_and_its_result_is_read(client: openai.OpenAI) -> None:
    named: Any = {"type": "function", "function": {"name": "add"}}
    asked = ASKED | {"temperature": 0, "parallel_tool_calls": False}
    first = client.chat.completions.create(messages=SAY, tool_choice=named, **asked).choices[0]
    assert first.message.tool_calls is not None
    (call,) = first.message.tool_calls
    assert call.function.name == "add"
    result: Any = {"role": "tool", "tool_call_id": call.id, "content": "42"}
    history = [*SAY, first.message, result]
    second = client.chat.completions.create(messages=history, tool_choice="none", **asked).choices[
        0
    ]
    assert second.message.tool_calls is None
    assert second.message.content
    assert second.finish_reason in ("stop", "length")


def test_several_calls_in_one_answer(client: openai.OpenAI) -> None:
    counts = set()
    for seed in range(6):
        answer = client.chat.completions.create(
            messages=SAY, tool_choice="required", seed=seed, **(ASKED | {"max_tokens": 60})
        ).choices[0]
        calls = answer.message.tool_calls or []
        counts.add(len(calls))
        check(calls if answer.finish_reason == "tool_calls" else calls[:-1])
    assert max(counts) > 1


def test_the_model_may_choose_not_to_call(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        messages=SAY, seed=1, **(ASKED | {"max_tokens": 40})
    ).choices[0]
    if answer.message.tool_calls:
        check(answer.message.tool_calls if answer.finish_reason == "tool_calls" else [])
    else:
        assert answer.message.content


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"tool_choice": {"type": "function", "function": {"name": "nobody"}}}, "no tool is called"),
    ({"tools": [*TOOLS, TOOLS[0]]}, "two of one name"),
    ({"tools": None, "tool_choice": "required"}, "needs tools"),
    ({"logprobs": True}, "logprobs has no meaning"),
    ({"response_format": {"type": "json_object"}}, "contradict"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools"),
    ({"tools": [{"type": "web_search"}]}, "tools"),
    ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": 3}}}]}, "grammar"),
    ({"messages": [{"role": "assistant"}]}, "no content"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "words"), REFUSED, ids=lambda value: str(value)[:50])
def test_what_cannot_be_is_refused(
    client: openai.OpenAI, fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=words):
        client.chat.completions.create(**(ASKED | {"messages": SAY} | fields))
