"""What JSON may have without end and without a meaning, bounded: the space between two parts, the digits of a second.

RFC 3339 lets a second have as many digits as anybody likes, and small models write them all. What a schema says of the
length or the value of its times is kept, and a longest length added where it says nothing. Other strings without a
longest length are left as they are: their letters mean something. Schemas within `allOf`, and such as are only reached
by a `$ref` to another place than the definitions, are left too. Numbers are no matter of the schema (numbers.py).
"""

from __future__ import annotations

from typing import Any, Final

WHITESPACE: Final = r"[ \t\n\r]{1,40}"
"""Between two parts of JSON: as much as a deep indentation takes, since small models write it for ever."""
LONGEST: Final = {"time": len("23:59:60.123456789+23:59"), "date-time": 35, "duration": 40}
"""Characters, with nanoseconds."""
_SAID: Final = ("minLength", "maxLength", "const", "enum", "pattern")
_LISTS: Final = ("anyOf", "oneOf", "prefixItems", "items")
_MAPS: Final = ("properties", "patternProperties", "$defs", "definitions")
_SINGLE: Final = (
    "items",
    "additionalItems",
    "additionalProperties",
    "if",
    "then",
    "else",
    "contains",
)


def bounded(schema: Any) -> Any:
    """The same schema, every time in it with a longest length. Raises RecursionError for one that is too deep."""
    if not isinstance(schema, dict):
        return schema
    own = dict(schema)
    for name in own.keys() & _SINGLE:
        own[name] = bounded(own[name])
    for name in own.keys() & _LISTS:
        if isinstance(own[name], list):
            own[name] = [bounded(one) for one in own[name]]
    for name in own.keys() & _MAPS:
        if isinstance(own[name], dict):
            own[name] = {key: bounded(one) for key, one in own[name].items()}
    name = own.get("format")
    if isinstance(name, str) and name in LONGEST and not own.keys() & _SAID:
        own["maxLength"] = LONGEST[name]
    return own
