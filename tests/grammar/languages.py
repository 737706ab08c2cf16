"""JSON schemas as languages of bytes: which texts are documents, written down once more without any library.

Of a schema: objects whose properties are all required or all optional, in the order of the schema, arrays, strings with
a longest length, whole numbers of a range, constants, alternatives, references into $defs.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from tests.grammar.derivatives import (
    EMPTY,
    Expression,
    any_letter,
    cat,
    either,
    make,
    one_of,
    row,
    rule,
    text,
    times,
)

SHORT = {"\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t"}
CONTROL = [*map(chr, range(0x20)), "\x7f"]


def spelt(letter: str) -> Expression:
    """A letter in a string. Only what has to be written with a backslash is, and where there are two ways, in both."""
    if letter in ('"', "\\"):
        return text("\\" + letter)
    if letter not in CONTROL:
        return text(letter)
    code = f"{ord(letter):04x}"
    digits = [either(text(digit), text(digit.upper())) for digit in code]
    long = row(text("\\u"), *digits)
    return either(text("\\" + SHORT[letter]), long) if letter in SHORT else long


LETTER = either(any_letter("".join([*CONTROL, '"', "\\"])), *map(spelt, [*CONTROL, '"', "\\"]))
SPACE = times(make("set", b" \t\n\r"), 0, 40)


class Language:
    """Of one schema. is_compact: without whitespace."""

    def __init__(self, schema: dict[str, Any], *, is_compact: bool) -> None:
        self._defs = schema.get("$defs", {})
        self._space = EMPTY if is_compact else SPACE
        self._named = {
            name: rule(cache(lambda s=own: self.of(s))) for name, own in self._defs.items()
        }
        self.whole = self.of(schema)

    def of(self, schema: dict[str, Any]) -> Expression:
        if "$ref" in schema:
            return self._named[schema["$ref"].removeprefix("#/$defs/")]
        if "anyOf" in schema:
            return either(*map(self.of, schema["anyOf"]))
        if "const" in schema:
            return self._constant(schema["const"])
        if "enum" in schema:
            return either(*map(self._constant, schema["enum"]))
        made: Expression = getattr(self, f"_{schema['type']}")(schema)
        return made

    def _constant(self, value: Any) -> Expression:
        """In pieces, between which there may be space."""
        if isinstance(value, dict):
            return self._members([cat(self._key(k), self._constant(v)) for k, v in value.items()])
        if isinstance(value, list):
            return self._between("[", list(map(self._constant, value)), "]")
        if isinstance(value, str):
            return row(text('"'), *map(spelt, value), text('"'))
        return text(json.dumps(value))

    def _null(self, _: Any) -> Expression:
        return text("null")

    def _boolean(self, _: Any) -> Expression:
        return one_of(["true", "false"])

    def _integer(self, schema: dict[str, Any]) -> Expression:
        low, high = schema["minimum"], schema["maximum"]
        zero = ["-0"] if low < 0 <= high else []  # JSON has it
        return one_of([*map(str, range(low, high + 1)), *zero])

    def _string(self, schema: dict[str, Any]) -> Expression:
        return row(text('"'), times(LETTER, 0, schema["maxLength"]), text('"'))

    def _array(self, schema: dict[str, Any]) -> Expression:
        items, most = self.of(schema["items"]), schema["maxItems"]
        counts = range(schema.get("minItems", 0), most + 1)
        return either(*(self._between("[", [items] * count, "]") for count in counts))

    def _object(self, schema: dict[str, Any]) -> Expression:
        members = [cat(self._key(k), self.of(v)) for k, v in schema["properties"].items()]
        if "required" in schema:
            assert list(schema["required"]) == list(schema["properties"])
            return self._members(members)
        chosen = range(2 ** len(members))
        return either(
            *(self._members([m for i, m in enumerate(members) if set_ >> i & 1]) for set_ in chosen)
        )

    def _key(self, name: str) -> Expression:
        return row(self._constant(name), self._space, text(":"), self._space)

    def _members(self, members: list[Expression]) -> Expression:
        return self._between("{", members, "}")

    def _between(self, first: str, items: list[Expression], last: str) -> Expression:
        space, parts = self._space, [text(first), self._space]
        for place, item in enumerate(items):
            parts += [text(","), space, item, space] if place else [item, space]
        return row(*parts, text(last))
