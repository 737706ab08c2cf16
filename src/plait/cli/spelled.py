"""Options back from the object that they made: as flags, and as a settings file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from plait.cli.options import Panel


def flags(panel: Panel, made: Any) -> list[str]:
    """The command line that makes `made`: what differs from the defaults."""
    words: list[str] = []
    for name, value in _changed(panel, made).items():
        spellings = panel.flags[name].spellings or (f"--{name.replace('_', '-')}",)
        on, _, off = spellings[-1].partition("/")
        if isinstance(value, bool):
            words.append(on if value else off)
            continue
        for one in _each(value):
            words += [on, one]
    return words


def settings_file(panel: Panel, made: Any) -> str:
    """The same in TOML, for --config."""
    lines = [f"{name} = {_toml(value)}" for name, value in _changed(panel, made).items()]
    return "".join(f"{line}\n" for line in lines)


def _changed(panel: Panel, made: Any) -> dict[str, Any]:
    values = {name: getattr(made, name) for name in panel.flags}
    return {name: value for name, value in values.items() if value != getattr(panel.defaults, name)}


def _each(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [f"{key}={one}" for key, one in value.items()]
    return [str(one) for one in value] if isinstance(value, tuple) else [str(value)]


def _toml(value: Any) -> str:
    """JSON's spelling of numbers, texts and lists is TOML's as well."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items()) + " }"
    return json.dumps(list(value) if isinstance(value, tuple) else value, default=str)
