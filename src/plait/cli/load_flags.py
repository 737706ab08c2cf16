"""Options that say what a load is, and from when on an answer came in time."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Annotated

import typer

from plait.analysis.workload import Load
from plait.cli.options import Flag, Panel
from plait.core.errors import UserError

FLAGS = {
    "requests": Flag("Requests at most."),
    "seconds": Flag("None begins after these."),
    "rate": Flag("Requests per second, whatever the server does."),
    "variation": Flag("Of the times between arrivals: 1 is Poisson, more is bursts."),
    "concurrency": Flag("Instead of a rate: so many always under way."),
    "prompt_words": Flag("About a token each."),
    "prefix_words": Flag("Common to all, before those."),
    "tokens": Flag("Tokens to generate for each."),
    "spread": Flag("Share by which lengths vary to both sides, evenly."),
    "turns": Flag("Make each request a conversation of so many."),
    "seed": Flag("The same seed, the same load."),
}
LOAD = Panel("Load", Load(), FLAGS)

GoalFirst = Annotated[float, typer.Option(min=0.0, help="Goodput: seconds to the first token.")]
GoalEach = Annotated[float, typer.Option(min=0.0, help="Goodput: seconds per further token.")]


def _take(context: typer.Context, path: Path | None) -> Path | None:
    """Make the load of a record the default of the command."""
    if path is not None:
        context.default_map = {**(context.default_map or {}), **_recorded(path)}
    return path


def _recorded(path: Path) -> dict[str, float]:
    names = {field.name for field in fields(Load)}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["load"]
        if found.keys() != names or not all(isinstance(one, int | float) for one in found.values()):
            raise ValueError("no load in it")
        return dict(found)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise UserError(f"{path} is no record: {error}", "a file of bench serve --out") from None


RecordedLoad = Annotated[
    Path | None,
    typer.Option(
        "--load",
        help="Take the load of a record of bench serve --out; other options of the load win over it.",
        metavar="FILE",
        callback=_take,
        is_eager=True,
    ),
]
