"""Grammars of every kind, with texts that fit them; expressions also as `derivatives` have them."""

from __future__ import annotations

import json
from typing import Any

from plait.core.structured import StructuredOutputs
from tests.grammar.derivatives import (
    Expression,
    any_letter,
    cat,
    either,
    one_of,
    span,
    star,
    text,
    times,
)

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["red", "green", "Δelta"]}, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
TREE: dict[str, Any] = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "value": {"anyOf": [{"type": "number"}, {"type": "null"}, {"type": "boolean"}]},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 2},
            },
            "required": ["value"],
            "additionalProperties": False,
        }
    },
}
DATED: dict[str, Any] = {
    "type": "object",
    "properties": {
        "day": {"type": "string", "format": "date"},
        "code": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"},
        "kind": {"const": 'ключ "x" \\ 日本'},
    },
    "required": ["day", "code", "kind"],
    "additionalProperties": False,
}

DOCUMENTS: list[tuple[dict[str, Any], list[Any]]] = [
    (PERSON, [{"name": "Zoë \"Q\" \\ 日本\n", "age": 41, "tags": ["red", "Δelta"]}, {"name": "", "age": 0, "tags": []}]),
    (TREE, [{"value": -1.5e3, "children": [{"value": None}, {"value": True, "children": []}]}]),
    (DATED, [{"day": "2024-02-29", "code": "AB-123", "kind": DATED["properties"]["kind"]["const"]}]),
    ({"type": "object"}, [{"a": [1, {"b": "😀"}], "": None}]),
]  # fmt: skip

EXPRESSIONS: list[tuple[str, Expression, list[str]]] = [
    (
        r"[A-Z][a-z]{1,8} (é|日本|😀)*[0-9]+",
        cat(
            span("A", "Z"),
            cat(
                times(span("a", "z"), 1, 8),
                cat(
                    text(" "),
                    cat(
                        star(one_of(["é", "日本", "😀"])), cat(span("0", "9"), star(span("0", "9")))
                    ),
                ),
            ),
        ),
        ["Hello 日本é42", "Ab 😀😀1"],
    ),
    (
        r'"([^"\\]|\\["\\n])*"',
        cat(
            text('"'),
            cat(star(either(any_letter('"\\'), one_of(['\\"', "\\\\", "\\n"]))), text('"')),
        ),
        ['"naïve \\"quote\\" 日本"', '""'],
    ),
    (r"(yes|yesterday|no)", one_of(["yes", "yesterday", "no"]), ["yes", "yesterday", "no"]),
]

LARK = 'start: sum\nsum: term ("+" term)*\nterm: NUMBER | "(" sum ")" | "日" term\nNUMBER: /[0-9]{1,3}/\n'


def grammars() -> list[tuple[StructuredOutputs, list[str]]]:
    """What is asked for, and texts that fit."""
    schemas = [
        (
            StructuredOutputs(json=schema, disable_any_whitespace=is_compact),
            [_text(document, is_compact) for document in documents],
        )
        for schema, documents in DOCUMENTS
        for is_compact in (False, True)
    ]
    return [
        *schemas,
        *((StructuredOutputs(regex=regex), texts) for regex, _, texts in EXPRESSIONS),
        (StructuredOutputs(choice=["red", "green", "Δelta\n"]), ["red", "Δelta\n"]),
        (StructuredOutputs(grammar=LARK), ["(1+2)+日(33)", "4"]),
        (StructuredOutputs(json_object=True), ['{"x": {}}']),
    ]


def _text(document: Any, is_compact: bool) -> str:
    separators = (",", ":") if is_compact else None
    return json.dumps(document, ensure_ascii=False, separators=separators)
