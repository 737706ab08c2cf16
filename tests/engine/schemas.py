"""Sixty-two schemas: nested, recursive, alternatives, enumerations, patterns, formats, unicode."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]


def record(required: bool = True, **properties: Schema) -> Schema:
    own: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return own | ({"required": list(properties)} if required else {})


def short(most: int = 12) -> Schema:
    return {"type": "string", "maxLength": most}


def listed(items: Schema, most: int = 3, least: int = 0) -> Schema:
    return {"type": "array", "items": items, "maxItems": most, "minItems": least}


def pattern(expression: str) -> Schema:
    return {"type": "string", "pattern": expression}


def number(low: float, high: float) -> Schema:
    return {"type": "number", "minimum": low, "maximum": high}


def whole(low: int, high: int) -> Schema:
    return {"type": "integer", "minimum": low, "maximum": high}


BOOL: Schema = {"type": "boolean"}
NULL: Schema = {"type": "null"}
VALUES: list[Schema] = [
    short(),
    whole(0, 9),
    whole(-50, 1000),
    number(0, 1),
    BOOL,
    {"enum": ["red", "green", "blue"]},
    {"enum": [1, "one", None, True, [1, 2]]},
    {"enum": ["ключ", "日本語", "naïve", "😀", 'a "quoted" \\ word', "tab\there"]},
    {"const": {"a": [1, {"b": None}]}},
    pattern("^[A-Z]{2}-[0-9]{3}$"),
    pattern("^(yes|no|maybe)$"),
    pattern("^[a-z]{1,8}@[a-z]{1,8}\\.(com|org)$"),
    {"type": "string", "format": "date"},
    {"type": "string", "format": "time"},
    {"type": "string", "format": "date-time"},
    {"type": "string", "format": "ipv4"},
    {"type": "string", "format": "uuid"},
    {"anyOf": [whole(0, 99), NULL]},
    {"anyOf": [record(kind={"const": "a"}, x=BOOL), record(kind={"const": "b"}, y=whole(0, 9))]},
    {"type": ["integer", "null"], "minimum": 0, "maximum": 10},
    listed(whole(0, 99)),
    listed(short(6), 2, 1),
    listed(listed(BOOL, 2), 2),
    {
        "type": "array",
        "prefixItems": [short(5), whole(0, 9), BOOL],
        "items": False,
        "minItems": 3,
        "maxItems": 3,
    },
    record(a=record(b=record(c=record(d=record(e=BOOL))))),
    {"type": "object", "additionalProperties": whole(0, 9), "maxProperties": 3},
    record(False, first=short(6), second=BOOL, third=whole(0, 9)),
    {"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 8}]},
]
TREE: Schema = {
    "$defs": {
        "node": record(value=whole(0, 9), children=listed({"$ref": "#/$defs/leaf"}, 2)),
        "leaf": record(value=whole(0, 9)),
    },
    "$ref": "#/$defs/node",
}
CHAIN: Schema = {
    "$defs": {"link": record(name=short(4), next={"anyOf": [{"$ref": "#/$defs/link"}, NULL]})},
    "$ref": "#/$defs/link",
}
EXPRESSION: Schema = {
    "$defs": {
        "e": {"anyOf": [whole(0, 9), record(op={"enum": ["+", "*"]}, of={"$ref": "#/$defs/two"})]},
        "two": {"type": "array", "items": {"$ref": "#/$defs/e"}, "minItems": 2, "maxItems": 2},
    },
    "$ref": "#/$defs/e",
}
PERSON: Schema = record(
    name=short(20),
    age=whole(0, 120),
    email=pattern("^[a-z]{2,8}@[a-z]{2,8}\\.com$"),
    tags=listed(short(6)),
)
ORDER: Schema = record(
    id={"type": "string", "format": "uuid"},
    when={"type": "string", "format": "date"},
    lines=listed(record(item=short(10), count=whole(1, 9), price=number(0, 99)), 2, 1),
    paid=BOOL,
)

SCHEMAS: list[Schema] = [
    *VALUES,
    *(record(value=value) for value in VALUES),
    TREE,
    CHAIN,
    EXPRESSION,
    PERSON,
    ORDER,
    record(**{"ключ": short(5), "日本": whole(0, 9), 'q"uote\\': BOOL}),
]
