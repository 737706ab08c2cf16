"""`plait pull`, `ls` and `rm`: the models on this machine."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from plait.cli.session import fetch


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (pull, ls, rm):
        app.command()(command)


def pull(models: Annotated[list[str], typer.Argument(metavar="MODEL...")]) -> None:
    """Download models; prints where each one is.

    A download that was interrupted goes on where it stopped, and counts only when its hash is right.
    """
    for name in models:
        print(fetch(name, offline=False), flush=True)


def ls(
    everything: Annotated[
        bool, typer.Option("--all", "-a", help="Also models that can be downloaded by name.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the models that were downloaded."""
    rows = _local() + (_remote() if everything else [])
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        _table(rows)


def rm(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete downloaded models; asks first."""
    from plait.weights import hub

    here = {model.name: model.bytes for model in hub.list_local()}
    known = {entry.name for entry in hub.known()}
    for name in models:
        amount = (
            f"{name} ({_megabytes(here[name])})" if name in here else f"what there is of {name}"
        )
        # A name that nobody knows is refused by `remove`, without a question first.
        if yes or name not in known | set(here) or typer.confirm(f"delete {amount}?", err=True):
            print(f"{name}: {_megabytes(hub.remove(name))} freed")


def _local() -> list[dict[str, Any]]:
    from plait.weights import hub

    return [
        {
            "name": model.name,
            "bytes": model.bytes,
            "modified": model.modified.isoformat(timespec="seconds"),
            "path": str(model.path),
        }
        for model in hub.list_local()
    ]


def _remote() -> list[dict[str, Any]]:
    from plait.weights import hub

    here = {model.name for model in hub.list_local()}
    return [
        {"name": entry.name, "bytes": entry.size, "title": entry.title, "licence": entry.licence}
        for entry in hub.known()
        if entry.name not in here
    ]


def _table(rows: list[dict[str, Any]]) -> None:
    width = max([4, *(len(row["name"]) for row in rows)])
    print(f"{'NAME':<{width}}  {'SIZE':>9}  MODIFIED")
    for row in rows:
        when = _ago(row["modified"]) if "modified" in row else f"not downloaded: {row['title']}"
        print(f"{row['name']:<{width}}  {_megabytes(row['bytes']):>9}  {when}")


def _megabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _ago(moment: str) -> str:
    seconds = (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            number = int(seconds // length)
            return f"{number} {unit}{'s' if number > 1 else ''} ago"
    return "just now"
