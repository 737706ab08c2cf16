"""A hole of a program: what may stand in it, as the engine is told, and how its text becomes a value."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from plait.core.errors import UserError
from plait.core.params import SamplingParams
from plait.core.structured import StructuredOutputs
from plait.programs.lm import constraints
from plait.programs.lm.constraints import ANYTHING, Constraint

MOST_TOKENS = 256
"""Of an answer for which nobody says how long it may be."""
MOST_ITEMS = 32
_ITEMS: dict[Any, str] = {
    str: r'"[^"\\\x00-\x1f]{0,200}"',
    int: constraints.INTEGER,
    float: constraints.NUMBER,
    bool: "(true|false)",
}


@dataclass(frozen=True, slots=True)
class Hole:
    """structured: what the answer has to fit, the lead included. stops: texts that end it; hidden: those of them that
    are no part of it. lead: white space that the answer begins with and that belongs to the prompt's text."""

    structured: StructuredOutputs | None
    stops: tuple[str, ...]
    hidden: frozenset[str]
    lead: str
    max_tokens: int
    min_tokens: int
    read: Callable[[str], Any]

    def params(self, **fields: Any) -> SamplingParams:
        """Of a request that fills it. fields: how to choose."""
        own: dict[str, Any] = {
            "max_tokens": self.max_tokens,
            "min_tokens": self.min_tokens,
            "stop": self.stops,
            "include_stop_str_in_output": bool(self.stops),
            "structured_outputs": self.structured,
        }
        return SamplingParams(**(own | fields))

    def text_of(self, written: str, stop: str | None) -> str:
        """The answer, given all that was written and the text that ended it."""
        shown = written.removesuffix(stop) if stop is not None and stop in self.hidden else written
        return shown.removeprefix(self.lead)


def for_value(kind: Any, constraint: Constraint | None, max_tokens: int | None, lead: str) -> Hole:
    """kind: str, int, float, bool, or a list of one of them. Raises UserError for what cannot be joined."""
    language, read = _kind(kind)
    if constraint is not None and not isinstance(constraint, Constraint):
        raise UserError(f"{constraint!r} is no constraint", "such as one_of([...]) or regex(...)")
    asked = language & (constraint or Constraint())
    both = asked.stops_at + asked.stops_before
    if any(stop in lead for stop in both):
        raise UserError(
            "the text before the answer ends with what would end the answer at once",
            "another stop, or a prompt that does not end with it",
        )
    structured = _structured(asked, lead)
    if asked.min_tokens and (structured or both):
        raise UserError(
            "at least so many tokens cannot be joined with anything else",
            "characters(at_least=...) or words(at_least=...)",
        )
    most = [n for n in (max_tokens, asked.max_tokens) if n is not None]
    return Hole(
        structured,
        both,
        frozenset(asked.stops_before),
        lead,
        min(most, default=max(MOST_TOKENS, asked.min_tokens)),
        asked.min_tokens,
        read,
    )


def for_json(schema: Mapping[str, Any] | str, max_tokens: int | None, lead: str) -> Hole:
    """A hole for a JSON value that fits a schema."""
    structured = StructuredOutputs(json=schema, disable_any_whitespace=True)
    if lead:
        tight = {"x-guidance": {"whitespace_flexible": False}}
        source = json.dumps(json.loads(structured.texts[0]) | tight)
        grammar = f"start: {constraints.literal(lead)} value\nvalue: %json {source}"
        structured = StructuredOutputs(grammar=grammar)
    most = 2 * MOST_TOKENS if max_tokens is None else max_tokens
    return Hole(structured, (), frozenset(), lead, most, 0, json.loads)


def _structured(asked: Constraint, lead: str) -> StructuredOutputs | None:
    """The language of all that is written, with what may follow a text that ends the answer: the last token may hold
    more than that."""
    if asked.is_free and not lead:
        return None
    at, before, own = asked.stops_at, asked.stops_before, asked.terminal
    if asked.is_free or not (at or before):
        body = own
    else:
        none = constraints.without(*at, *before)
        ways = [f"({own} & {none})"]
        if at:
            held = f" & {constraints.without(*before)}" if before else ""
            ways.append(f"(({own} & {constraints.ending(*at)}{held}) {ANYTHING})")
        if before:
            ends = " | ".join(map(constraints.literal, before))
            ways.append(f"(({own} & {none}) ({ends}) {ANYTHING})")
        body = f"({' | '.join(ways)})"
    start = f"{constraints.literal(lead)} " if lead else ""
    grammar = f"start: T\nT: {start}{body}"
    return StructuredOutputs(grammar=grammar, open_end=not (at or before))


def _kind(kind: Any) -> tuple[Constraint, Callable[[str], Any]]:
    simple: dict[Any, tuple[Constraint, Callable[[str], Any]]] = {
        str: (Constraint(), str),
        int: (constraints.integer(), int),
        float: (constraints.number(), float),
        bool: (constraints.one_of(["true", "false"]), json.loads),
    }
    item = get_args(kind)[0] if get_origin(kind) is list and len(get_args(kind)) == 1 else None
    if kind in simple:
        return simple[kind]
    if item is not None and item in simple:
        own = _ITEMS[item]
        pattern = rf"\[({own}(, ?{own}){{0,{MOST_ITEMS - 1}}})?\]"
        return constraints.regex(pattern), json.loads
    raise UserError(
        f"a hole cannot hold {kind!r}", "str, int, float, bool, or a list of them: list[int]"
    )
