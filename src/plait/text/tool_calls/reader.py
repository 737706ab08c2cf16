"""From the text of an answer, as it comes, to what was said and what is to be called."""

from __future__ import annotations

from dataclasses import dataclass, field

from plait.text.tool_calls.base import Syntax


@dataclass(frozen=True, slots=True)
class Piece:
    """What is new: text that was said, or a part of call number `call` (its name first, and once)."""

    text: str = ""
    call: int | None = None
    name: str | None = None


@dataclass(slots=True)
class ObjectEnd:
    """Finds the end of a JSON object that comes in pieces."""

    depth: int = 0
    in_string: bool = False
    is_escaped: bool = False

    def find(self, text: str) -> int | None:
        """How much of the text belongs to the object; None: all, and it goes on."""
        for place, letter in enumerate(text):
            if self.is_escaped:
                self.is_escaped = False
            elif self.in_string:
                self.is_escaped = letter == "\\"
                self.in_string = letter != '"'
            elif letter == '"':
                self.in_string = True
            elif letter in "{[":
                self.depth += 1
            elif letter in "}]":
                self.depth -= 1
                if not self.depth:
                    return place + 1
        return None


@dataclass(slots=True)
class Reader:
    """Of one answer. num_calls: that have begun."""

    syntax: Syntax
    num_calls: int = 0
    _rest: str = ""
    _state: str = "text"
    _has_text: bool = False
    _object: ObjectEnd = field(default_factory=ObjectEnd)

    def push(self, text: str, *, is_end: bool = False) -> list[Piece]:
        """What can be told now. is_end: nothing more comes, so that nothing is held back."""
        self._rest += text
        pieces: list[Piece] = []
        while (step := getattr(self, f"_{self._state}")(pieces, is_end)) is not None:
            self._state = step
        return pieces

    def _text(self, pieces: list[Piece], is_end: bool) -> str | None:
        """Everything up to a call; of what may become one nothing is told yet."""
        if self.num_calls and not self._has_text:
            self._rest = self._rest.lstrip(f" \n\t{self.syntax.separator}")
        begin = self.syntax.begin
        may_begin = bool(self.syntax.trigger) or not self._has_text
        place = self._rest.find(begin) if self.syntax.trigger else -1
        if may_begin and (place >= 0 or self._rest.startswith(begin)):
            self._say(pieces, max(place, 0))
            self._rest = self._rest[len(begin) :]
            return "name"
        held = 0 if is_end or not may_begin else self._held(begin)
        self._say(pieces, len(self._rest) - held)
        return None

    def _held(self, begin: str) -> int:
        """Letters at the end that a call may begin with."""
        if not self.syntax.trigger:
            return len(self._rest) if begin.startswith(self._rest) else 0
        most = min(len(begin) - 1, len(self._rest))
        return next((n for n in range(most, 0, -1) if begin.startswith(self._rest[-n:])), 0)

    def _say(self, pieces: list[Piece], count: int) -> None:
        if count:
            pieces.append(Piece(self._rest[:count]))
            self._rest, self._has_text = self._rest[count:], True

    def _name(self, pieces: list[Piece], is_end: bool) -> str | None:
        name, middle, rest = self._rest.partition(self.syntax.middle)
        if not middle:
            return None
        pieces.append(Piece(call=self.num_calls, name=name))
        self.num_calls += 1
        self._rest, self._object = rest, ObjectEnd()
        return "arguments"

    def _arguments(self, pieces: list[Piece], is_end: bool) -> str | None:
        end = self._object.find(self._rest)
        part = self._rest[:end]
        if part:
            pieces.append(Piece(part, call=self.num_calls - 1))
        self._rest = self._rest[len(part) :]
        return None if end is None else "end"

    def _end(self, pieces: list[Piece], is_end: bool) -> str | None:
        if len(self._rest) < len(self.syntax.end):
            return None
        self._rest, self._has_text = self._rest[len(self.syntax.end) :], False
        return "text"
