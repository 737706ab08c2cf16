"""Every syntax of tool calls: what its grammar lets through is what its reader reads, however it comes."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from plait.core import registry
from plait.core.structured import StructuredOutputs
from plait.grammar.base import State
from plait.text.tool_calls.base import ROOM, Syntax, Tool, syntax_for
from plait.text.tool_calls.reader import Piece, Reader
from tests.grammar.test_masks import compiler
from tests.text.models import tokenizer

NAME = "smollm2-135m"
WEATHER = Tool(
    "get_weather",
    "The weather of a place.",
    {
        "properties": {"place": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["place"],
        "additionalProperties": False,
    },
)
CLOCK = Tool("clock")
CALLS = [
    ("get_weather", {"place": 'a "}\\n</tool_call>{" \\ 日本', "days": 3}),
    ("clock", {}),
    ("get_weather", {"place": ""}),
]


@pytest.fixture(params=registry.names(ROOM))
def syntax(request: pytest.FixtureRequest) -> Syntax:
    made: Syntax = registry.load(ROOM, request.param).Syntax()
    return made


def written(syntax: Syntax, calls: list[tuple[str, Any]]) -> str:
    each = [syntax.written({"name": name, "arguments": own}) for name, own in calls]
    return syntax.separator.join(each)


def accepts(asked: StructuredOutputs, text: str) -> bool:
    state: State = compiler(NAME).compile(asked)
    rest = text.encode()
    own = tokenizer(NAME)
    ids = {own.token_bytes(i): i for i in range(own.vocab_size) if i not in own.special_ids}
    while rest:  # byte by byte where the spelling of several is forced
        forced = state.forced()
        piece = rest[:1] if forced is None else own.token_bytes(forced)
        if not rest.startswith(piece) or state.is_finished or not state.advance(ids[piece]):
            return False
        rest = rest.removeprefix(piece)
    return state.is_accepting


def read(syntax: Syntax, texts: list[str]) -> tuple[str, list[tuple[str, str]]]:
    reader, said, calls = Reader(syntax), "", list[tuple[str, str]]()
    pieces: list[Piece] = [piece for text in texts for piece in reader.push(text)]
    for piece in [*pieces, *reader.push("", is_end=True)]:
        if piece.call is None:
            said += piece.text
        elif piece.name is not None:
            assert piece.call == len(calls)
            calls.append((piece.name, ""))
        else:
            calls[piece.call] = (calls[piece.call][0], calls[piece.call][1] + piece.text)
    return said, calls


def divided(text: str, rng: random.Random) -> list[str]:
    cuts = sorted(rng.randrange(len(text) + 1) for _ in range(rng.randrange(30)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def test_calls_pass_the_grammar_and_are_read_however_they_come(syntax: Syntax) -> None:
    text, rng = written(syntax, CALLS), random.Random(1)
    for is_required in (False, True):
        asked = syntax.grammar([WEATHER, CLOCK], is_required=is_required, is_parallel=True)
        assert accepts(asked, text), text
    for _ in range(200):
        said, calls = read(syntax, divided(text, rng))
        assert said == ""
        assert [(name, json.loads(own)) for name, own in calls] == CALLS


def test_text_is_text(syntax: Syntax) -> None:
    text, rng = "Two < three, <tool, \n{[ and so on <", random.Random(2)
    asked = syntax.grammar([CLOCK], is_required=False, is_parallel=True)
    assert accepts(asked, text)
    assert accepts(asked, "")
    for _ in range(50):
        assert read(syntax, divided(text, rng)) == (text, [])


def test_text_before_calls_where_there_may_be_some(syntax: Syntax) -> None:
    if not syntax.trigger:
        return
    text = "I will look." + written(syntax, CALLS)
    assert accepts(syntax.grammar([WEATHER, CLOCK], is_required=False, is_parallel=True), text)
    said, calls = read(syntax, divided(text, random.Random(3)))
    assert (said, len(calls)) == ("I will look.", 3)


def test_what_is_not_a_call_does_not_pass(syntax: Syntax) -> None:
    asked = syntax.grammar([WEATHER], is_required=True, is_parallel=False)
    assert accepts(asked, written(syntax, CALLS[:1]))
    for wrong in (
        "",
        "Hello",
        written(syntax, CALLS),
        written(syntax, [("clock", {})]),
        written(syntax, [("get_weather", {})]),
        written(syntax, [("get_weather", {"place": 3})]),
        written(syntax, CALLS[:1]) + "!",
    ):
        assert not accepts(asked, wrong), wrong
    free = syntax.grammar([WEATHER], is_required=False, is_parallel=False)
    assert not accepts(free, written(syntax, [("clock", {})]))
    assert not accepts(free, written(syntax, CALLS))


def test_a_call_that_is_cut_is_told_as_far_as_it_goes(syntax: Syntax) -> None:
    text = written(syntax, CALLS[:1])
    said, calls = read(syntax, [text[: text.index("days")]])
    assert said == ""
    assert calls[0][0] == "get_weather"
    assert calls[0][1].startswith('{"place": ')


def test_templates_choose_their_syntax() -> None:
    kinds = {
        str(tokenizer(NAME).chat_template): "generic",
        "{% for tool in tools %}<tool_call>{% endfor %}": "hermes",
        '{{ tools }} {"name": f, "parameters": x}': "llama",
    }
    for template, name in kinds.items():
        assert type(syntax_for(template)).__module__.endswith(f".{name}")


def test_a_model_that_knows_no_tools_is_told_of_them() -> None:
    made = syntax_for("")
    call = {"id": "1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Time?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "noon", "tool_call_id": "1"},
    ]
    told, offered = made.prompt(messages, [WEATHER, CLOCK])
    assert offered == []
    assert told[0]["content"].startswith("Be short.\n\nYou may call tools.")
    assert '"get_weather"' in told[0]["content"]
    assert [message["role"] for message in told] == ["system", "user", "assistant", "user"]
    assert told[2]["content"] == '{"name": "clock", "arguments": {}}'
    assert told[3]["content"] == "Result: noon"
