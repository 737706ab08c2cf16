"""Command-line options made from the dataclasses that own the defaults.

`@takes(sampling=SamplingParams)` turns a command's parameter `sampling` into one option per field, so that
a setting exists on the command line because it exists in the engine. The tables in `flags.py` give
spelling and help; a field without a row is an error at import time.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, get_type_hints

import typer

from plait.core.errors import UserError
from plait.core.structured import KINDS, StructuredOutputs


@dataclass(frozen=True, slots=True)
class Flag:
    """One option. spellings: "" for --field-name. kind: type for typer; None for that of the field.

    read: turns what typer hands over into the field's value.
    """

    help: str
    spellings: tuple[str, ...] = ()
    kind: Any = None
    parser: Callable[[str], Any] | None = None
    read: Callable[[Any], Any] | None = None
    metavar: str | None = None


@dataclass(frozen=True, slots=True)
class Panel:
    """Options that together make one object. defaults: an instance that holds them.

    variables: with a prefix such as "PLAIT_", each option may also be given by PLAIT_FIELD_NAME.
    """

    title: str
    defaults: Any
    flags: Mapping[str, Flag]
    variables: str = ""


def takes(**panels: Panel) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorate a command whose keyword parameters of these names are built from options."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def wrapper(*args: Any, **given: Any) -> None:
            for name, panel in panels.items():
                given[name] = _build(panel, given)
            command(*args, **given)

        signature = inspect.signature(command, eval_str=True)
        own = [p for name, p in signature.parameters.items() if name not in panels]
        made = [p for panel in panels.values() for p in _parameters(panel)]
        wrapper.__signature__ = signature.replace(parameters=own + made)  # type: ignore[attr-defined]
        return wrapper

    return decorate


def _parameters(panel: Panel) -> list[inspect.Parameter]:
    types = get_type_hints(type(panel.defaults))
    return [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=_default(panel, name, flag),
            annotation=Annotated[flag.kind or types[name], _option(panel, name, flag)],
        )
        for name, flag in panel.flags.items()
    ]


def _option(panel: Panel, name: str, flag: Flag) -> Any:
    return typer.Option(
        *(flag.spellings or (f"--{name.replace('_', '-')}",)),
        help=flag.help,
        rich_help_panel=panel.title,
        parser=flag.parser,
        metavar=flag.metavar,
        envvar=f"{panel.variables}{name.upper()}" if panel.variables else None,
        show_default=_default(panel, name, flag) not in (None, [], False),
    )


def _default(panel: Panel, name: str, flag: Flag) -> Any:
    default = getattr(panel.defaults, name)
    if flag.read is not None:
        return []
    # typer passes a default through the parser too, which reads text
    return str(default) if flag.parser is not None and default is not None else default


def _build(panel: Panel, given: dict[str, Any]) -> Any:
    """Take the panel's values out of `given` and make its object; refusals name the field."""
    values = {name: getattr(panel.defaults, name) for name in _field_names(panel)}
    for name, flag in panel.flags.items():
        value = given.pop(name)
        values[name] = flag.read(value) if flag.read else value
    return type(panel.defaults)(**values)


def _field_names(panel: Panel) -> list[str]:
    return [field.name for field in fields(panel.defaults)]


def size(text: str) -> int:
    """A whole number with an optional K, M or G (powers of 1024): "4096", "32K", "1.5G"."""
    digits, factor = text.strip(), 1
    if digits and digits[-1].upper() in "KMG":
        factor = 1024 ** (1 + "KMG".index(digits[-1].upper()))
        digits = digits[:-1]
    try:
        return int(float(digits) * factor)
    except (ValueError, OverflowError):
        raise UserError(f"{text!r} is not a size", "a number such as 4096, 32K or 1.5G") from None


def pairs(items: list[str]) -> dict[str, str]:
    """["a=1", "b=2"] -> {"a": "1", "b": "2"}."""
    split = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not name or not equals:
            raise UserError(f"{item!r} is not of the form name=value")
        split[name.strip()] = value.strip()
    return split


def spans(items: list[str]) -> tuple[tuple[int, int], ...]:
    """["4:9"] -> ((4, 9),)."""
    try:
        split = [item.partition(":") for item in items]
        return tuple((int(start), int(end)) for start, _, end in split)
    except ValueError:
        raise UserError(
            f"a stretch is two token positions, not {' '.join(items)!r}", "e.g. 4:9"
        ) from None


MAX_SOURCE_FILE = 1 << 20


def structure(items: list[str]) -> StructuredOutputs | None:
    """["json=schema.json"], ["regex=[0-9]+"], ["choice=yes", "choice=no"], ["grammar=sums.lark"], ["json_object"] or
    ["structural_tag=tags.json"]; besides "complete", and of an infill "begins_at=4"."""
    if "complete" in items:
        asked = structure([item for item in items if item != "complete"])
        if asked is None:
            raise UserError("complete goes with what the answer has to fit", "such as json=FILE")
        return replace(asked, complete=True)
    begins = [item.partition("=")[2] for item in items if item.startswith("begins_at=")]
    if begins:
        return _beginning(begins, structure([i for i in items if not i.startswith("begins_at=")]))
    kinds = [item.partition("=")[0] for item in items]
    if not items:
        return None
    if (
        len(set(kinds)) > 1
        or kinds[0] not in KINDS
        or (len(kinds) > 1 and kinds[0] != "choice")
        or (kinds[0] == "json_object" and items != ["json_object"])
    ):
        raise UserError(
            f"an answer cannot be asked to fit {' '.join(items)!r}",
            "json=FILE, regex=EXPRESSION, grammar=FILE, structural_tag=FILE, json_object, or choice=TEXT as often as there "
            "are choices; besides, complete",
        )
    values = [item.partition("=")[2] for item in items]
    kind, (value, *_) = kinds[0], values
    if kind == "choice":
        return StructuredOutputs(choice=values)
    if kind == "json_object":
        return StructuredOutputs(json_object=True)
    if kind == "regex":
        return StructuredOutputs(regex=value)
    made: dict[str, Any] = {kind: _source(value)}
    return StructuredOutputs(**made)


def _beginning(given: list[str], asked: StructuredOutputs | None) -> StructuredOutputs:
    """With the place where the text that has to fit begins."""
    if len(given) != 1 or not given[0].isdigit() or asked is None:
        raise UserError(
            "begins_at goes with what the answer has to fit, once, and is a number of tokens",
            "such as --structured json=FILE --structured begins_at=4",
        )
    return replace(asked, begins_at=int(given[0]))


def _source(path: str) -> str:
    """The text of a file with a schema or a grammar."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(MAX_SOURCE_FILE)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} cannot be read: {error}", "a file with a schema or a grammar"
        ) from None


def biases(items: list[str]) -> dict[int, float]:
    """["42=-100"] -> {42: -100.0}."""
    try:
        return {int(token): float(bias) for token, bias in pairs(items).items()}
    except ValueError:
        raise UserError(
            f"a logit bias is a token id and a number, not {' '.join(items)!r}", "e.g. 42=-100"
        ) from None
