"""Write docs/papers.md from src/plait/cli/papers.toml (tests/test_papers.py compares the two)."""

from __future__ import annotations

from pathlib import Path

from plait.cli.paper_rows import Paper, counts, papers

PAGE = Path(__file__).resolve().parent.parent / "docs" / "papers.md"

HEAD = """# The 87 papers

Plait sets out to make the ideas of 87 papers real in one engine. This page says how far that is; it is
written by `make docs` from `src/plait/cli/papers.toml`, which `plait papers` prints too.

- **not working**: nothing to show yet.
- **mechanism exact**: the mechanism is there and tests prove it equal to its definition.
- **effect measured**: the paper's effect was also measured on this project's own models, with its uncertainty.
- **effect null**: measured, and there is none here; the numbers are printed.

A row beyond "not working" names tests that run in every `make test`; `tests/test_papers.py` fails otherwise.
"""


def page() -> str:
    """The text of docs/papers.md."""
    rows = papers()
    tally = ", ".join(f"{number} {state}" for state, number in counts(rows).items())
    table = ["| # | paper | area | capability | state | shown by |", "| --- " * 6 + "|"]
    return "\n".join([HEAD, f"Now: {tally}.", "", *table, *map(_line, rows), ""])


def _line(row: Paper) -> str:
    shown = "<br>".join(f"`{one}`" for one in row.shown_by)
    state = f"{row.state}: {row.note}" if row.note else row.state
    cells = (str(row.number), row.name, row.area, row.capability, state, shown)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
