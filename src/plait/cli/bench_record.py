"""What every measurement of `plait bench` is written down with."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from plait import __version__
from plait.cli.machine import machine

Out = Annotated[Path | None, typer.Option(help="Write the record to this file.")]


class Record:
    """Begun before the measurement, which then takes place under the load that the record tells of."""

    def __init__(self, bench: str, model: str, out: Path | None) -> None:
        """out: file to write. Raises OSError when it cannot be written: better before the runs."""
        if out is not None:
            out.touch()
        self.out = out
        self.before = os.getloadavg()[0]
        self.fields: dict[str, Any] = {"bench": bench, "plait": __version__, "model": model}

    def close(self, **fields: Any) -> dict[str, Any]:
        """Add what was found, say what else was running, and write the file."""
        load = {"before": self.before, "after": os.getloadavg()[0]}
        self.fields |= {**fields, "load_average": load, "machine": machine()}
        print(f"load average {load['before']:.2f} before, {load['after']:.2f} after")
        if self.out is not None:
            self.out.write_text(json.dumps(self.fields, indent=2) + "\n", encoding="utf-8")
        return self.fields
