"""The measured cost of a step finds its way into the engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from plait.analysis.step_cost import StepCost
from plait.core.config import EngineConfig
from plait.engine import build
from plait.engine.facts import Machine
from plait.engine.pace import measured_pace, setup
from plait.kernels.plan import start_threads
from plait.kvcache.pool import Pool
from plait.runner.load import Loaded
from tests.fakes import CAUSAL_TRAITS, LAYOUT, FakeRunner

CONFIG = EngineConfig("m", max_step_stretch=3.0)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    here = Machine("a processor", ("generic", "avx2"), 2, 0)
    monkeypatch.setattr("plait.engine.pace.machine", lambda: here)
    monkeypatch.setenv("PLAIT_HOME", str(tmp_path))
    return tmp_path


def save(home: Path, config: EngineConfig = CONFIG) -> StepCost:
    cost = StepCost(setup(config), (0,), (1, 101), ((1.0, 2.0),), (), ())
    cost.save(home)
    return cost


def test_nothing_measured_is_no_pace() -> None:
    assert measured_pace(CONFIG) == (None, ())


def test_a_measurement_is_the_pace_of_its_setup_alone(home: Path) -> None:
    cost = save(home)
    pace, [words] = measured_pace(CONFIG)
    assert pace is not None
    assert isinstance(pace.time, StepCost)
    assert (pace.stretch, pace.time.setup) == (3.0, cost.setup)
    assert "3 times" in words
    assert pace.time.setup.isa == "avx2"
    for other in (
        {"model": "other"},
        {"threads": 1},
        {"kv": "int8"},
        {"isa": "generic"},
        {"executor": "reference"},
    ):
        assert measured_pace(replace(CONFIG, **other)) == (None, ())


@pytest.mark.parametrize("is_measured", [True, False])
def test_build_hands_it_to_the_scheduler(
    is_measured: bool, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = Pool(LAYOUT, 8)
    runner, threads = FakeRunner(pool, CAUSAL_TRAITS), start_threads(1)
    loaded = Loaded(runner, CAUSAL_TRAITS, pool, threads, ("loaded",), lambda: None, 512)
    monkeypatch.setattr(build, "load", lambda config, path, read_ends: loaded)
    monkeypatch.setattr(build.hub, "resolve", lambda model, offline, progress: home)
    if is_measured:
        save(home)
    built = build.build(CONFIG)
    assert (built.engine.scheduler.pace is not None) == is_measured
    assert len(built.words) == 1 + is_measured
