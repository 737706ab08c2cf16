"""What a model says of tools, as the API tells it."""

from __future__ import annotations

from collections.abc import Iterable

from plait.server.schema.common import new_id
from plait.server.schema.tools import CallDelta, CalledFunction, FunctionDelta, MadeCall
from plait.text.tool_calls.base import Syntax
from plait.text.tool_calls.reader import Piece, Reader


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
