"""What a model says of tools, as the API tells it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from plait.core.params import SamplingParams
from plait.server.schema.common import new_id
from plait.server.schema.tools import CallDelta, CalledFunction, FunctionDelta, MadeCall
from plait.server.state import Served
from plait.text.tool_calls.base import Message, Syntax, Tool, syntax_for
from plait.text.tool_calls.reader import Piece, Reader


class Offer(NamedTuple):
    """A conversation with tools as a model reads it. offered: for its template. syntax: of calls that it may make, None
    if it may make none."""

    messages: list[Message]
    offered: list[Message] | None
    syntax: Syntax | None
    params: SamplingParams


def offer(
    served: Served,
    messages: list[Message],
    tools: Sequence[Tool],
    params: SamplingParams,
    *,
    must_call: bool,
    is_parallel: bool,
) -> Offer:
    """What is offered, and held to the tools' schemas. Raises UserError."""
    if not tools and not any(m["role"] == "tool" or "tool_calls" in m for m in messages):
        return Offer(messages, None, None, params)
    syntax = syntax_for(served.template or served.tokenizer.chat_template or "")
    messages, offered = syntax.prompt(messages, tools)
    if not tools:
        return Offer(messages, None, None, params)
    asked = syntax.grammar(tools, is_required=must_call, is_parallel=is_parallel)
    return Offer(messages, offered or None, syntax, replace(params, structured_outputs=asked))


class Calls:
    """Of one choice. syntax: None where there are no tools."""

    def __init__(self, syntax: Syntax | None) -> None:
        self._reader = None if syntax is None else Reader(syntax)

    def read(self, text: str, *, is_end: bool) -> list[Piece]:
        """What a piece of the answer says."""
        if self._reader is None:
            return [Piece(text)] if text else []
        return self._reader.push(text, is_end=is_end)

    def reason(self, reason: str | None) -> str | None:
        """Why the choice ended."""
        has_called = self._reader is not None and self._reader.num_calls
        return "tool_calls" if reason == "stop" and has_called else reason


def delta_of(piece: Piece) -> CallDelta:
    """One piece of a call, as a stream has it."""
    assert piece.call is not None
    if piece.name is None:
        return CallDelta(index=piece.call, function=FunctionDelta(arguments=piece.text))
    function = FunctionDelta(name=piece.name, arguments="")
    return CallDelta(index=piece.call, id=new_id("call_"), type="function", function=function)


def whole(pieces: Iterable[Piece]) -> tuple[str, list[MadeCall]]:
    """What was said, and the calls."""
    said, calls = "", list[MadeCall]()
    for piece in pieces:
        if piece.call is None:
            said += piece.text
        elif piece.name is not None:
            function = CalledFunction(name=piece.name, arguments="")
            calls.append(MadeCall(id=new_id("call_"), function=function))
        else:
            calls[piece.call].function.arguments += piece.text
    return said, calls
