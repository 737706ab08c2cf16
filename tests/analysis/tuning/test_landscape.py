"""The record of a search: written, read again, and refused when it is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from plait.analysis.tuning.landscape import Landscape, Round, read
from plait.analysis.tuning.objective import Measure, Objective
from plait.core.errors import UserError
from tests.analysis.tuning.fakes import SETUP, SPACE, landscape, measure

RATE = Objective("throughput")


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    land, file = landscape(), tmp_path / "tune.json"
    land.add((2, 64, False), Measure(1, (), {"timeout": 2}, 0.25))
    land.add((4, 64, False), None, "the server did not start")
    land.compare((8, 1024, True))
    land.rounds.append(Round(measure(10, 7), measure(11, 7)))
    land.found = {"gain": 1.1}
    land.save(file)
    assert read(file) == land
    assert [path.name for path in tmp_path.iterdir()] == ["tune.json"]


def test_the_median_over_loads_counts_and_a_failure_is_none() -> None:
    land = Landscape(dict(SETUP), SPACE)
    for one in (10, 40, 20):
        trial = land.add(SPACE.base, measure(one))
    assert trial.value(RATE) == pytest.approx(20)
    land.add(SPACE.base, Measure(0, (), {"timeout": 1}))
    assert trial.value(RATE) is None
    assert land.best(RATE) == []


def test_the_best_come_first_whichever_way_is_better() -> None:
    land = landscape()
    assert land.best(RATE)[0].settings == (8, 1024, True)
    assert land.best(Objective("p50-latency"))[0].settings == (8, 1024, True)
    among = [(2, 64, True), (16, 1024, True)]
    assert [one.settings for one in land.best(RATE, among)] == [among[1], among[0]]


def test_other_settings_are_compared_from_the_beginning() -> None:
    land = Landscape(dict(SETUP), SPACE)
    land.compare((2, 0, True))
    land.rounds.append(Round(measure(1), measure(2)))
    land.compare((2, 0, True))
    assert len(land.rounds) == 1
    land.compare((4, 0, True))
    assert land.rounds == []


def damage(**fields: Any) -> str:
    land = Landscape(dict(SETUP), SPACE)
    land.add(SPACE.base, measure(10))
    return json.dumps(json.loads(land._text()) | fields)


ANSWER = [0, 0, 1, 2, 3, 7, 5]


def trial(*answers: Any, **settings: Any) -> list[Any]:
    measures = [{"seed": 0, "load_average": 0, "errors": {}, "answers": answers}]
    return [{"settings": SPACE.named(SPACE.base) | settings, "error": "", "measures": measures}]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "[" * 100_000,
        damage(space={}),
        damage(space={"max_num_seqs": 3}),
        damage(default={"max_num_seqs": 3}),
        damage(trials=[3]),
        damage(trials=trial(ANSWER, max_num_seqs=3)),
        damage(trials=trial(ANSWER, kv="int8")),
        damage(trials=trial([0, 0, 1])),
        damage(trials=trial([0, 0, 1, 2, float("nan"), 7, 5])),
        damage(trials=trial([0, 0, 2, 1, 3, 7, 5])),
        damage(trials=trial([0, 0, 1, 2, 3, 7, 0])),
        damage(trials=trial([0, 0, "1", 2, 3, 7, 5])),
        damage(tuned={"max_num_seqs": 5}),
    ],
)
def test_what_is_no_landscape_is_said(text: str, tmp_path: Path) -> None:
    file = tmp_path / "tune.json"
    file.write_text(text)
    with pytest.raises(UserError, match="is no recorded landscape"):
        read(file)


def test_the_damaged_ones_were_whole_before(tmp_path: Path) -> None:
    file = tmp_path / "tune.json"
    file.write_text(damage(trials=trial(ANSWER, max_num_seqs=4)))
    assert list(read(file).trials) == [(4, 0, True)]
