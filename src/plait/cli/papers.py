"""`plait papers`: how far the 87 papers are."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from plait.cli.paper_rows import Paper, counts
from plait.cli.paper_rows import papers as all_papers


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(papers)


def papers(
    as_json: Annotated[bool, typer.Option("--json", help="Print every row as JSON.")] = False,
) -> None:
    """List the 87 papers: what each adds to the engine, its state, and what shows it."""
    rows = all_papers()
    if as_json:
        print(json.dumps([row.record() for row in rows], indent=2))
    else:
        _table(rows)


def _table(rows: list[Paper]) -> None:
    names, areas = max(len(row.name) for row in rows), max(len(row.area) for row in rows)
    for row in rows:
        line = f"{row.number:>2}  {row.state:<15}  {row.name:<{names}}  {row.area:<{areas}}"
        print(f"{line}  {'  '.join(row.shown_by)}".rstrip())
    print(", ".join(f"{number} {state}" for state, number in counts(rows).items()))
