"""Calls of a real model always fit, whatever it is asked."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jsonschema
import pytest

from plait.core.params import SamplingParams
from plait.llm import LLM
from plait.text.tool_calls.base import Tool, syntax_for
from plait.text.tool_calls.reader import Reader

MODEL = "qwen2.5-coder-1.5b"


def closed(**properties: Any) -> dict[str, Any]:
    own = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**own, "required": list(properties)}


TEXT: dict[str, Any] = {"type": "string", "maxLength": 40}
TOOLS = [
    Tool("get_weather", "The weather of a place.", closed(place=TEXT, days={"type": "integer", "minimum": 1, "maximum": 9})),
    Tool("add", "Adds two numbers.", closed(a={"type": "integer", "minimum": -999, "maximum": 999}, b={"type": "integer", "minimum": -999, "maximum": 999})),
    Tool("find_flights", "Flights between two cities.", closed(
        origin=TEXT, goal=TEXT, date={"type": "string", "format": "date"},
        seat={"enum": ["window", "aisle", None]}, stops={"type": "array", "items": TEXT, "maxItems": 2},
    )),
]  # fmt: skip
ASKS = [
    "What is {n} + {m}?",
    "How will the weather be in Paris for {k} days?",
    "A flight from Rome to Oslo on the {k}th of May {m}, by the window.",
    "Tell me a joke about number {n}.",
    "日本の天気は？ {k}日間。",
]


def check(name: str, count: int) -> None:
    """Half of the answers have to be calls; the others may be. Temperature 1."""
    schemas = {tool.name: tool.parameters for tool in TOOLS}
    with LLM(name, max_model_len=1024, max_num_seqs=16) as llm:
        syntax = syntax_for(llm.tokenizer.chat_template or "")
        conversations, params = [], []
        for i in range(count):
            text = ASKS[i % len(ASKS)].format(n=i, m=2 * i + 7, k=1 + i % 9)
            messages, offered = syntax.prompt([{"role": "user", "content": text}], TOOLS)
            conversations.append(messages)
            asked = syntax.grammar(TOOLS, is_required=i % 2 == 0, is_parallel=i % 4 < 2)
            own = SamplingParams(temperature=1.0, seed=i, max_tokens=200)
            params.append(replace(own, structured_outputs=asked))
        outputs = llm.chat(conversations, params, tools=offered or None)
    num_calls = 0
    for i, output in enumerate(outputs):
        (one,) = output.outputs
        assert one.error is None
        calls = calls_of(Reader(syntax), one.text)
        assert calls or i % 2
        if one.finish_reason == "length":
            calls = calls[:-1]  # the last may have been cut
        for tool, arguments in calls:
            jsonschema.validate(json.loads(arguments), schemas[tool])
        num_calls += len(calls)
    assert num_calls >= count / 2


def calls_of(reader: Reader, text: str) -> list[tuple[str, str]]:
    names, arguments = [], list[str]()
    for piece in reader.push(text, is_end=True):
        if piece.name is not None:
            names.append(piece.name)
            arguments.append("")
        elif piece.call is not None:
            arguments[piece.call] += piece.text
    return list(zip(names, arguments, strict=True))


@pytest.mark.large
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["smollm2-135m", MODEL])
def test_calls_of_a_hundred_prompts_fit(name: str) -> None:
    check(name, 100)
