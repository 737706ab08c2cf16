"""Rounds of `plait bench speculative` that outlast the command: written after each, gone on with by the next."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from plait.analysis.speculation import Run, choices, gains
from plait.core.errors import UserError

PLACE = "  "
SAME = ("model", "tokens", "ways", "engine", "code", "processor")
"""What rounds must have in common to be one measurement."""


class Rounds:
    """runs: of all rounds, this command's and those of earlier ones."""

    def __init__(self, out: Path | None, fields: dict[str, Any], *, fresh: bool = False) -> None:
        """out: file to write after each round, and to go on with unless `fresh`. fields: for the record, with all of
        SAME, and "workloads": name and batch -> hash of the prompts, to which more may be added later.

        Raises UserError for a file of another measurement, OSError for one that cannot be written.
        """
        self.out, self.fields = out, fields
        self.runs: list[Run] = []
        self.pieces: list[dict[str, Any]] = []
        self._began, self._before = 0, os.getloadavg()[0]
        if out is None:
            return
        out.touch()
        if not fresh and (text := out.read_text(encoding="utf-8")):
            self._go_on(text, out)
        self._began = len(self.runs)

    def has(self, *place: Any) -> bool:
        """Whether a round was measured: workload, batch, group, turn."""
        return any(run.round == place for run in self.runs)

    def add(self, runs: list[Run]) -> None:
        """One more round; the file has it when this returns."""
        self.runs += runs
        if self.out is None:
            return
        part = self.out.with_name(self.out.name + ".part")
        part.write_text(self._text(), encoding="utf-8")
        part.replace(self.out)

    def piece(self) -> dict[str, Any]:
        """What one command has added, and the load average around it."""
        load = {"before": self._before, "after": os.getloadavg()[0]}
        return {"runs": len(self.runs) - self._began, "load_average": load}

    def _text(self) -> str:
        """JSON, with a run in each of the last lines."""
        found = gains(self.runs)
        automatic = self.fields["ways"][-1]
        told = {
            **self.fields,
            "pieces": [*self.pieces, self.piece()],
            "gains": [gain.record() for gain in found],
            "choices": [choice.record() for choice in choices(found, automatic)],
        }
        lines = ",\n".join(PLACE + json.dumps(asdict(run)) for run in self.runs)
        return json.dumps(told, indent=1).removesuffix("\n}") + f',\n "runs": [\n{lines}\n ]\n}}\n'

    def _go_on(self, text: str, out: Path) -> None:
        hint = "--fresh begins anew; or another file for --out"
        try:
            known = json.loads(text)
            runs = [Run(**run) for run in known["runs"]]
            pieces, workloads = [*known["pieces"]], {**known["workloads"]}
            others = {name: known[name] for name in SAME}
        except (ValueError, KeyError, TypeError, RecursionError):
            raise UserError(f"{out} holds no rounds to go on with", hint) from None
        own = self.fields["workloads"]
        others["prompts"] = {name: workloads[name] for name in own if name in workloads}
        mine = {**self.fields, "prompts": {name: own[name] for name in others["prompts"]}}
        if different := [name for name in others if others[name] != mine[name]]:
            raise UserError(f"{out} was measured with other {', '.join(different)}", hint)
        self.fields["workloads"] = {**workloads, **own}
        self.runs, self.pieces = runs, pieces
