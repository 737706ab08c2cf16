"""A TOML file with settings of a command: what neither a flag nor an environment variable says."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from plait.core.errors import UserError

MAX_BYTES = 1 << 20


def _take(context: typer.Context, path: Path | None) -> Path | None:
    """Make the file's values the defaults of the command."""
    if path is not None:
        known = {param.name for param in context.command.params if param.name} - {"config", "help"}
        context.default_map = {**(context.default_map or {}), **read(path, known)}
    return path


ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="TOML file of settings, named as the flags are: max_num_seqs = 16",
        envvar="PLAIT_CONFIG",
        callback=_take,
        is_eager=True,
    ),
]


def read(path: Path, known: set[str]) -> dict[str, Any]:
    """Settings by name, values as they would stand on the command line. Raises UserError."""
    try:
        with path.open("rb") as file:
            table = tomllib.loads(file.read(MAX_BYTES).decode("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path} is no settings file: {error}") from None
    found = {name.replace("-", "_"): value for name, value in table.items()}
    for name in found.keys() - known:
        near = difflib.get_close_matches(name, sorted(known), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
        raise UserError(f"{path} sets {name!r}, which is no setting", hint)
    return {name: _spelled(value) for name, value in found.items()}


def _spelled(value: Any) -> str | list[str]:
    if isinstance(value, dict):
        return [f"{key}={_spelled(one)}" for key, one in value.items()]
    if isinstance(value, list):
        return [str(_spelled(one)) for one in value]
    return str(value).lower() if isinstance(value, bool) else str(value)
