"""benchmarks/startup.py with commands that answer when they are told."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def startup(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("startup")


def test_the_first_round_is_not_counted(startup: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    times = {"a": iter([9.0, 1.0, 3.0, 2.0]), "b": iter([9.0, 5.0, 5.0, 4.0])}
    monkeypatch.setattr(startup, "start", lambda model, _: (now := next(times[model]), now + 1))
    found = startup.measure(["a", "b"], "x", 3)
    assert (found["a"]["first_token"], found["a"]["end"]) == (2.0, 3.0)
    assert found["b"]["samples"] == [[5.0, 6.0], [5.0, 6.0], [4.0, 5.0]]


def test_a_command_that_says_nothing_is_ended(
    startup: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    silent = tmp_path / "python"
    silent.write_text("#!/bin/sh\nexec sleep 60\n")
    silent.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(silent))
    monkeypatch.setattr(startup, "PATIENCE", 0.2)
    with pytest.raises(RuntimeError, match="no answer"):
        startup.start("m", "x")
