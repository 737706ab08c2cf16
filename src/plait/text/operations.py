"""What chat templates may call: the filters, tests and operators of jinja2, each paid for beforehand.

What is missing here (center, wordwrap, xmlattr, random, ...) no template for chats needs; asking for it is
an error that names it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from types import GeneratorType
from typing import Any

from jinja2 import filters, tests

from plait.text.budget import (
    LETTERS_PER_UNIT,
    MAX_INTEGER_BITS,
    TooMuchWork,
    spend,
    spend_letters,
    spend_size,
    spend_value,
)

MAX_INDENT = 64

_WALKED = (
    *("trim", "upper", "lower", "title", "capitalize", "string", "int", "float", "abs", "round"),
    *("sort", "dictsort", "unique", "min", "max", "reverse"),
)
"""Filters that look at all of their input."""

_LAZY = (
    *("length", "count", "first", "last", "list", "items", "default", "d"),
    *("map", "select", "reject", "selectattr", "rejectattr"),
)
"""Filters that look at their input one element at a time, if at all."""

_COMPARING = {
    *("eq", "equalto", "==", "ne", "!=", "lt", "lessthan", "<", "le", "<=", "gt", "greaterthan"),
    *(">", "ge", ">=", "in"),
}

STRING_METHODS = frozenset(
    {
        *("split", "rsplit", "splitlines", "partition", "rpartition", "strip", "lstrip", "rstrip"),
        *("startswith", "endswith", "removeprefix", "removesuffix", "replace", "join", "count"),
        *("find", "rfind", "index", "rindex", "upper", "lower", "title", "capitalize", "swapcase"),
        *("isdigit", "isalpha", "isalnum", "isspace", "isupper", "islower", "isnumeric"),
    }
)
METHODS: dict[type, frozenset[str]] = {
    str: STRING_METHODS,
    dict: frozenset({"items", "keys", "values", "get"}),
    list: frozenset({"index", "count"}),
    tuple: frozenset({"index", "count"}),
}

_DIRECTIVE = re.compile(r"%(?:\([^)]*\))?[#0\- +]*(\*|\d*)(?:\.(\*|\d*))?")


def ticking(items: Iterable[Any], cost: int = 1) -> Iterator[Any]:
    """The items, each paid for as it is taken."""
    for item in items:
        spend(cost)
        yield item


def multiply(left: Any, right: Any) -> Any:
    """left * right, repetition of strings and lists included."""
    for many, times in ((left, right), (right, left)):
        if isinstance(many, str | list | tuple) and isinstance(times, int):
            size = len(many) * max(times, 0)
            spend(1 + (size // LETTERS_PER_UNIT if isinstance(many, str) else size))
    return left * right


def add(left: Any, right: Any) -> Any:
    """left + right."""
    spend_size(left)
    spend_size(right)
    return left + right


def power(left: Any, right: Any) -> Any:
    """left ** right, of moderate numbers."""
    whole = isinstance(left, int) and isinstance(right, int)
    if whole and left.bit_length() * max(right, 0) > MAX_INTEGER_BITS:
        raise TooMuchWork("it computes a number of absurd size")
    return left**right


def remainder(left: Any, right: Any) -> Any:
    """left % right: a remainder, or the formatting of a string."""
    if not isinstance(left, str):
        return left % right
    for match in _DIRECTIVE.finditer(left):
        for width in match.groups():
            if width and (width == "*" or len(width) > 2):
                raise TooMuchWork("it pads a string to an absurd width")
    # Every directive may print everything there is.
    for _ in ticking(range(left.count("%"))):
        spend_value(right)
    spend_letters(len(left))
    return left % right


OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "*": multiply,
    "+": add,
    "**": power,
    "%": remainder,
}


def pay_for_method(name: str, owner: Any, args: tuple[Any, ...]) -> None:
    """Pay for `owner.name(*args)` of a built-in type, before it runs."""
    spend_size(owner)
    if name in ("split", "rsplit", "splitlines"):
        spend(len(owner))
    elif name == "join" and args:
        spend_value(args)
        spend_letters(len(owner) * (len(args[0]) if hasattr(args[0], "__len__") else 0))
    elif name == "replace" and len(args) >= 2:
        _pay_for_replacing(owner, args[0], args[1])
    elif name in ("index", "count") and not isinstance(owner, str):
        spend_value(owner)


def replace(text: Any, old: Any, new: Any, count: int | None = None) -> str:
    """The `replace` filter."""
    spend_value(text)
    plain = str(text)
    _pay_for_replacing(plain, old, new)
    return plain.replace(str(old), str(new), -1 if count is None else count)


def join(items: Any, between: str = "", attribute: str | int | None = None) -> str:
    """The `join` filter, of attributes of mappings if one is named."""
    found = list(ticking(items))
    if attribute is not None:
        found = [item[attribute] for item in found]
    spend_value(found)
    spend_letters(len(between) * len(found))
    return between.join(map(str, found))


def concatenate(items: list[Any]) -> str:
    """What `~` makes of its operands."""
    return join(items)


def to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """The `tojson` filter, with the arguments that model publishers use (not jinja2's, it escapes HTML)."""
    parts, depth = spend_value(value)
    if isinstance(indent, str) or not 0 <= (indent or 0) <= MAX_INDENT:
        raise TooMuchWork("it indents JSON by an absurd width")
    spend_letters(parts * depth * (indent or 0))
    if separators is not None:
        spend_letters(parts * sum(map(len, separators)))
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def indent_lines(text: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    """The `indent` filter."""
    spend_value(text)
    margin = len(width) if isinstance(width, str) else width
    if margin > MAX_INDENT:
        raise TooMuchWork("it indents text by an absurd width")
    spend_letters((str(text).count("\n") + 1) * margin)
    return filters.do_indent(str(text), width, first, blank)


def total(items: Any, attribute: str | int | None = None, start: float = 0) -> float:
    """The `sum` filter, of numbers."""
    found = ticking(items)
    numbers = [item[attribute] if attribute is not None else item for item in found]
    if not all(isinstance(number, int | float) for number in (start, *numbers)):
        raise TooMuchWork("it sums up what are not numbers")
    return sum(numbers, start)


def all_filters() -> dict[str, Callable[..., Any]]:
    """Name -> filter."""
    own: dict[str, Callable[..., Any]] = {
        "replace": replace, "join": join, "tojson": to_json, "indent": indent_lines, "sum": total,
        "format": lambda text, *args: remainder(str(text), args), "safe": str,
    }  # fmt: skip
    walked = {name: _paid(filters.FILTERS[name], spend_value) for name in _WALKED}
    lazy = {name: _paid(filters.FILTERS[name], _spend_step) for name in _LAZY}
    return {**walked, **lazy, **own}


def all_tests() -> dict[str, Callable[..., Any]]:
    """Name -> test."""
    return {
        name: _paid(test, spend_value if name in _COMPARING else _spend_step)
        for name, test in tests.TESTS.items()
    }


def _paid(function: Any, pay: Callable[[Any], object]) -> Callable[..., Any]:
    """The function, paid for by its arguments before and by its result after it ran."""

    num_inner = 1 if hasattr(function, "jinja_pass_arg") else 0  # jinja2's own first argument

    @wraps(function)
    def paid(*args: Any, **options: Any) -> Any:
        for argument in (*args[num_inner:], *options.values()):
            pay(argument)
        result = function(*args, **options)
        if isinstance(result, GeneratorType):
            return ticking(result)
        spend_size(result)
        return result

    return paid


def _spend_step(_value: Any) -> None:
    spend(1)


def _pay_for_replacing(text: str, old: Any, new: Any) -> None:
    if isinstance(old, str) and isinstance(new, str):
        spend_letters(len(text))
        spend_letters(text.count(old) * len(new))
