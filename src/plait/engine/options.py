"""Settings by name: strings such as "threshold=0.8" become the frozen Options of the siblings in use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from types import MappingProxyType, NoneType
from typing import Any, get_args, get_type_hints

from plait.core.errors import UserError

_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def resolve(
    given: Mapping[str, str],
    kinds: Mapping[str, type[Any]],
    base: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """Build the Options of every part, from those in `base` where there are some, else from the defaults.

    given: field name, or "part.field" where two parts share a name -> value as text.
    kinds: part ("planner", "decoder", "cache") -> its Options class.
    Raises UserError for a name that no part has, that two parts have, or a value that does not parse.
    """
    chosen: dict[str, dict[str, Any]] = {part: {} for part in kinds}
    for name, text in given.items():
        part, field = _place(name, text, kinds)
        chosen[part][field] = _parse(name, text, _kind(get_type_hints(kinds[part])[field]))
    return {
        part: replace(base[part], **chosen[part]) if part in base else kind(**chosen[part])
        for part, kind in kinds.items()
    }


def _place(name: str, text: str, kinds: Mapping[str, type[Any]]) -> tuple[str, str]:
    known = [(part, field.name) for part, kind in kinds.items() for field in fields(kind)]
    places = [(part, field) for part, field in known if name in (field, f"{part}.{field}")]
    if len(places) == 1:
        return places[0]
    if places:
        ways = " or ".join(f"{part}.{field}" for part, field in places)
        raise UserError(f"{name}={text!r} could mean more than one part", f"write {ways}")
    listing = ", ".join(f"{field} ({part})" for part, field in known)
    raise UserError(
        f"{name}={text!r}: no part in use has such an option",
        f"available: {listing}" if listing else "these parts have no options",
    )


def _kind(hint: Any) -> Any:
    """The type that a text becomes; of "int | None" the int, since None is what is not given."""
    return next((kind for kind in get_args(hint) if kind is not NoneType), hint)


def _parse(name: str, text: str, kind: Any) -> Any:
    try:
        return _BOOLEANS[text.lower()] if kind is bool else kind(text)
    except (ValueError, KeyError) as error:
        wanted = {int: "a whole number", float: "a number", bool: "true or false"}.get(kind, "text")
        raise UserError(f"{name}={text!r} is not valid", wanted) from error
