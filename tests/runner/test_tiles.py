"""Choices of tiles are measured once per machine, table and kind of matrix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from plait.core import registry
from plait.kernels.plan import PackedMatrix, Pool, runnable_isas
from plait.kernels.tiles import Kind, expand_from, set_expand_from
from plait.quant.base import by_name
from plait.runner import tiles
from plait.runner.weights import FLOATS

DENSE, SPARSE = Kind("q8_0", False), Kind("q8_0", True)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Kind]:
    """The kinds that were measured, with 5, 6, 7, ... rows found."""
    kinds: list[Kind] = []

    def measure(kind: Kind, raw: object, isa: str) -> int:
        kinds.append(kind)
        return 4 + len(kinds)

    monkeypatch.setattr(tiles.tiles, "measure", measure)
    return kinds


def test_only_what_is_missing_is_measured(measured: list[Kind], tmp_path: Path) -> None:
    assert tiles.prepare({DENSE}, "generic", "here", tmp_path) == {"q8_0": 5}
    both = tiles.prepare([DENSE, SPARSE], "generic", "here", tmp_path)
    assert both == {"q8_0": 5, "q8_0 2:4": 6}
    assert (expand_from("generic", *DENSE), expand_from("generic", *SPARSE)) == (5, 6)
    assert tiles.prepare([SPARSE, DENSE], "generic", "here", tmp_path) == both
    assert measured == [DENSE, SPARSE]


def test_another_processor_measures_for_itself(measured: list[Kind], tmp_path: Path) -> None:
    tiles.prepare({DENSE}, "generic", "here", tmp_path)
    assert tiles.prepare({DENSE}, "generic", "there", tmp_path) == {"q8_0": 6}
    assert tiles.prepare({DENSE}, "generic", "there", tmp_path) == {"q8_0": 6}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"processor": "here", "expand_from": {"q8_0": 0}}',
        '{"processor": "here", "expand_from": 3}',
    ],
)
def test_a_damaged_file_is_written_anew(measured: list[Kind], tmp_path: Path, text: str) -> None:
    file = tmp_path / "tiles" / "generic.json"
    file.parent.mkdir()
    file.write_text(text)
    assert tiles.prepare({DENSE}, "generic", "here", tmp_path) == {"q8_0": 5}
    assert tiles.prepare({DENSE}, "generic", "here", tmp_path) == {"q8_0": 5}
    assert measured == [DENSE]


def test_a_folder_that_cannot_be_written_is_no_error(measured: list[Kind], tmp_path: Path) -> None:
    (tmp_path / "tiles").write_text("in the way")
    assert tiles.prepare({DENSE}, "generic", "here", tmp_path) == {"q8_0": 5}
    assert tiles.prepare({DENSE}, "generic", "here", tmp_path) == {"q8_0": 6}


def test_every_format_with_integer_kernels_has_a_choice() -> None:
    pool = Pool(1)
    for name in registry.names("quant"):
        zeros = by_name(name).quantize(np.zeros((8, 256), np.float32)).reshape(-1)
        matrix = PackedMatrix(name, 8, 256, zeros, pool, packing="sparse")
        assert (Kind(name, False) in tiles.EVERY) == (name not in FLOATS)
        assert (Kind(name, True) in tiles.EVERY) == matrix.is_sparse


def test_the_choice_is_kept_below_the_cache_folder(
    measured: list[Kind], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLAIT_HOME", str(tmp_path))
    assert tiles.choose({DENSE}, "generic") == {}
    table = runnable_isas()[-1]
    before = expand_from(table, *DENSE)
    assert tiles.choose({DENSE}, "auto") == {"q8_0": 5}
    assert expand_from(table, *DENSE) == 5
    set_expand_from(table, *DENSE, before)
    assert (tmp_path / "tiles" / f"{table}.json").exists()
