"""Sibling folders: the file name is the public name, nothing is listed anywhere.

A room such as `decoding` holds one file per strategy; each exports one class with a fixed name
(`Decoder`, `Planner`, `Cache`, `Model`, `Format`, ...), a one-line `SUMMARY` and, where it has settings,
a frozen `Options` dataclass. A file without a `SUMMARY` line (the contract in `base.py`, helpers)
is no sibling.
"""

from __future__ import annotations

import ast
import difflib
import importlib
from functools import cache
from pathlib import Path
from types import ModuleType

from plait.core.errors import NotFoundError

_ROOT = Path(__file__).resolve().parent.parent


def summaries(room: str) -> dict[str, str]:
    """Name -> one-line summary of every sibling in a room, sorted, without importing any of them.

    room: folder below `plait`, e.g. "decoding" or "text/tool_calls".
    """
    return dict(_summaries(_ROOT / room))


def names(room: str) -> list[str]:
    """Public names in a room, sorted."""
    return list(summaries(room))


def load(room: str, name: str) -> ModuleType:
    """Import one sibling by its public name.

    Raises NotFoundError naming the nearest siblings; an ImportError inside the file is not hidden.
    """
    known = names(room)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        guess = f"did you mean {near[0]!r}? " if near else ""
        raise NotFoundError(f"no {room} called {name!r}", f"{guess}available: {', '.join(known)}")
    return importlib.import_module(f"plait.{room.replace('/', '.')}.{name}")


@cache
def _summaries(folder: Path) -> dict[str, str]:
    summaries = {file.stem: _summary(file) for file in sorted(folder.glob("*.py"))}
    return {name: summary for name, summary in summaries.items() if summary is not None}


def _summary(file: Path) -> str | None:
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("SUMMARY = "):
            return str(ast.literal_eval(line.removeprefix("SUMMARY = ")))
    return None
