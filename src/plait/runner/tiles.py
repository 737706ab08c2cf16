"""The choice of tiles: measured on this machine the first time a kind of matrix is met, kept below the cache folder.

Only speed hangs on it: whatever is chosen, results have the same bits.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np

from plait.core.config import VERSION
from plait.kernels import tiles
from plait.kernels.plan import runnable_isas
from plait.kernels.tiles import Kind
from plait.quant.base import by_name
from plait.runner.facts import processor
from plait.weights.hub import cache_root

FORMATS = ("q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl")
SPARSE_FORMATS = ("q4_0", "q8_0", "q6_k")
EVERY = (*(Kind(name, False) for name in FORMATS), *(Kind(name, True) for name in SPARSE_FORMATS))


def choose(kinds: Iterable[Kind], isa: str) -> dict[str, int]:
    """As prepare, for this machine and its cache folder; isa may be "auto". The generic table has no tiles."""
    table = isa if isa != "auto" else runnable_isas()[-1]
    if table == "generic":
        return {}
    # The kernels differ from version to version.
    return prepare(kinds, table, f"{processor()}, Plait {VERSION}", cache_root())


def prepare(kinds: Iterable[Kind], isa: str, processor: str, folder: Path) -> dict[str, int]:
    """Choose for these kinds of matrices in the whole process; returns rows by kind.

    isa: name of a table, not "auto". What another processor or another version of Plait
    measured is not used. A folder that cannot be written is
    no error: then each process measures anew.
    """
    file = folder / "tiles" / f"{isa}.json"
    saved = _load(file, processor)
    chosen = {_name(kind): saved.get(_name(kind)) or _measure(kind, isa) for kind in kinds}
    for kind in kinds:
        tiles.set_expand_from(isa, *kind, chosen[_name(kind)])
    if not chosen.items() <= saved.items():
        _save(file, processor, saved | chosen)
    return chosen


def _name(kind: Kind) -> str:
    return f"{kind.format_name} 2:4" if kind.is_sparse else kind.format_name


def _measure(kind: Kind, isa: str) -> int:
    zeros = by_name(kind.format_name).quantize(np.zeros(tiles.MATRIX, np.float32))
    return tiles.measure(kind, zeros.reshape(-1), isa)


def _load(file: Path, processor: str) -> dict[str, int]:
    """What was saved on this processor; nothing if that cannot be read or is not what we write."""
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
        found = {str(kind): int(rows) for kind, rows in fields["expand_from"].items()}
        fits = fields["processor"] == processor and all(rows >= 1 for rows in found.values())
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}
    return found if fits else {}


def _save(file: Path, processor: str, chosen: dict[str, int]) -> None:
    partial = file.with_suffix(f".{os.getpid()}")
    text = json.dumps({"processor": processor, "expand_from": chosen}, indent=1) + "\n"
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(file)
