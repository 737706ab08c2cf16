"""Write the table of flags into docs/serving.md, from the command itself (tests/cli/test_serving_page.py compares)."""

from __future__ import annotations

from pathlib import Path

import typer
from typer.core import TyperGroup, TyperOption

from plait.cli.main import app

PAGE = Path(__file__).resolve().parent.parent / "docs" / "serving.md"
MARK = "<!-- flags: scripts/flags.py -->\n"


def page(written: str) -> str:
    """The text of the page, with all before the mark as it was."""
    head, mark, _ = written.partition(MARK)
    assert mark, f"{PAGE} has lost the line {MARK!r}"
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    options = [one for one in group.commands["serve"].params if isinstance(one, TyperOption)]
    rows = [_row(one) for one in options if "--help" not in one.opts]
    return "\n".join(
        [f"{head}{MARK}", "| flag | variable | default | what |", "| --- " * 4 + "|", *rows, ""]
    )


def _row(option: TyperOption) -> str:
    spellings = ", ".join(f"`{one}`" for one in (*option.opts, *option.secondary_opts))
    default = option.default
    shown = "" if default in (None, "", [], ()) or callable(default) else f"`{_plain(default)}`"
    variable = f"`{option.envvar}`" if option.envvar else ""
    cells = (spellings, variable, shown, option.help or "")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _plain(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
