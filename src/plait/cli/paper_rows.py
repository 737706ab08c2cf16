"""The rows of papers.toml: what each paper became here, and the tests that show it."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("papers.toml")
STATES = ("not working", "mechanism exact", "effect measured", "effect null")


@dataclass(frozen=True, slots=True)
class Paper:
    """number: 1..87. area: part of the engine it belongs to. capability: what it adds there.

    state: one of STATES. tests: pytest ids that show the state; at least one unless "not working".
    command: a command line that shows it, or "". note: what was measured, and what falls short, or "".
    """

    number: int
    name: str
    area: str
    capability: str
    state: str
    tests: tuple[str, ...] = ()
    command: str = ""
    note: str = ""

    @property
    def shown_by(self) -> tuple[str, ...]:
        """Everything a reader may run to see the state for themselves."""
        return (self.command, *self.tests) if self.command else self.tests

    def record(self) -> dict[str, object]:
        """The row as plain data for JSON."""
        return asdict(self)


def papers() -> list[Paper]:
    """Every row, by number."""
    rows = tomllib.loads(SOURCE.read_text(encoding="utf-8"))["paper"]
    return [Paper(**{**row, "tests": tuple(row["tests"])}) for row in rows]


def counts(rows: list[Paper]) -> dict[str, int]:
    """State -> number of papers in it, every state included."""
    return {state: sum(row.state == state for row in rows) for state in STATES}
