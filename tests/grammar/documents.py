"""Documents that fit a schema, and ways to write them, from a seed: the schemas of tests/engine/schemas.py and no others."""

from __future__ import annotations

import datetime
import json
import random
import string
import uuid
from typing import Any

LETTERS = "abcXYZ 019_-.:,{}[]/'\"\\\n\t\b\x01éßДяλ日本語ツ한글😀🏳️👩‍👩‍👧\u00a0\u2028ﬁ"
"""Of free texts: escapes, combining marks, every length of UTF-8."""
PATTERNS = {
    "^[A-Z]{2}-[0-9]{3}$": lambda rng: (
        f"{_some(rng, string.ascii_uppercase, 2, 2)}-{_some(rng, '0123456789', 3, 3)}"
    ),
    "^(yes|no|maybe)$": lambda rng: rng.choice(["yes", "no", "maybe"]),
    "^[a-z]{1,8}@[a-z]{1,8}\\.(com|org)$": lambda rng: _mail(rng, 1, ["com", "org"]),
    "^[a-z]{2,8}@[a-z]{2,8}\\.com$": lambda rng: _mail(rng, 2, ["com"]),
}


class Source:
    """Documents of one schema."""

    def __init__(self, schema: dict[str, Any], rng: random.Random) -> None:
        self._schema, self._rng = schema, rng

    def document(self) -> Any:
        return self._of(self._schema, 0)

    def _of(self, schema: dict[str, Any], depth: int) -> Any:
        rng = self._rng
        if "$ref" in schema:
            name = schema["$ref"].removeprefix("#/$defs/")
            return self._of(self._schema["$defs"][name], depth + 1)
        if "anyOf" in schema:  # the flattest where it has become deep
            flat = min(schema["anyOf"], key=lambda way: len(json.dumps(way)))
            return self._of(flat if depth > 4 else rng.choice(schema["anyOf"]), depth)
        if "allOf" in schema:
            return rng.randint(schema["allOf"][0]["minimum"], schema["allOf"][1]["maximum"])
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return rng.choice(schema["enum"])
        kind = schema["type"]
        if isinstance(kind, list):
            kind = rng.choice(kind)
        return getattr(self, f"_{kind}")(schema, depth)

    def _null(self, _schema: Any, _depth: int) -> None:
        return None

    def _boolean(self, _schema: Any, _depth: int) -> bool:
        return self._rng.random() < 0.5

    def _integer(self, schema: Any, _depth: int) -> int:
        return self._rng.randint(schema["minimum"], schema["maximum"])

    def _number(self, schema: Any, _depth: int) -> float:
        value = self._rng.uniform(schema["minimum"], schema["maximum"])
        return round(value, self._rng.randint(0, 6)) if self._rng.random() < 0.8 else int(value)

    def _string(self, schema: Any, _depth: int) -> str:
        rng = self._rng
        if "pattern" in schema:
            return str(PATTERNS[schema["pattern"]](rng))
        if "format" in schema:
            return _formatted(rng, schema["format"])
        return _some(rng, LETTERS, 0, schema["maxLength"])

    def _array(self, schema: Any, depth: int) -> list[Any]:
        if "prefixItems" in schema:
            return [self._of(one, depth) for one in schema["prefixItems"]]
        count = self._rng.randint(schema.get("minItems", 0), schema["maxItems"])
        return [self._of(schema["items"], depth) for _ in range(count)]

    def _object(self, schema: Any, depth: int) -> dict[str, Any]:
        rng = self._rng
        if "properties" not in schema:
            names = {_some(rng, LETTERS, 0, 8) for _ in range(rng.randint(0, 3))}
            return {name: self._of(schema["additionalProperties"], depth) for name in names}
        required = schema.get("required", ())
        return {
            name: self._of(own, depth)
            for name, own in schema["properties"].items()
            if name in required or rng.random() < 0.5
        }


def written(document: Any, rng: random.Random, *, is_compact: bool) -> str:
    """A document as JSON; with whitespace as programs write it, if it may have any."""
    styles: list[dict[str, Any]] = [{}, {"indent": 2}, {"indent": "\t"}, {"separators": (",", ":")}]
    style = styles[3] if is_compact else rng.choice(styles)
    return json.dumps(document, ensure_ascii=False, **style)


def _some(rng: random.Random, letters: str, least: int, most: int) -> str:
    return "".join(rng.choices(letters, k=rng.randint(least, most)))


def _mail(rng: random.Random, least: int, ends: list[str]) -> str:
    name, host = (_some(rng, string.ascii_lowercase, least, 8) for _ in range(2))
    return f"{name}@{host}.{rng.choice(ends)}"


def _formatted(rng: random.Random, name: str) -> str:
    moment = datetime.datetime(1900, 1, 1) + datetime.timedelta(seconds=rng.randrange(8 * 10**9))
    zone = rng.choice(["Z", "+00:00", "-11:30"])
    match name:
        case "date":
            return moment.date().isoformat()
        case "time":
            return moment.time().isoformat() + zone
        case "date-time":
            return moment.isoformat() + zone
        case "ipv4":
            return ".".join(str(rng.randrange(256)) for _ in range(4))
    assert name == "uuid"
    return str(uuid.UUID(int=rng.getrandbits(128)))
