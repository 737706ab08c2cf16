"""Driving an engine: what share of a step its kernels do not take."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from plait.analysis import drive
from tests.fakes import FakeRunner, make_engine


def test_what_the_kernels_do_not_take_is_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, kernels = [0.0], [0]
    forward = FakeRunner.forward

    def slow(self: FakeRunner, inputs: object) -> object:
        clock[0] += 4.0
        kernels[0] += 3_000_000_000
        return forward(self, inputs)  # type: ignore[arg-type]

    monkeypatch.setattr(FakeRunner, "forward", slow)
    monkeypatch.setattr(FakeRunner, "counters", lambda _: {drive.KERNELS: kernels[0]})
    monkeypatch.setattr(drive, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    engine = make_engine()
    assert drive.outside(engine, 5, 3, rounds=2) == dict.fromkeys(drive.WAYS, pytest.approx(0.25))
    assert not engine.has_work


def test_an_executor_that_does_not_measure_its_kernels_has_no_share() -> None:
    assert drive.outside(make_engine(), 5, 3) == {}
