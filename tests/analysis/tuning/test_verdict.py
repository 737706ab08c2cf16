"""How sure a comparison is: planted gains, noise, losses and failures."""

from __future__ import annotations

import numpy as np
import pytest

from plait.analysis.tuning.landscape import Round
from plait.analysis.tuning.objective import Measure, Objective
from plait.analysis.tuning.verdict import MOST_ROUNDS, verdict
from tests.analysis.tuning.fakes import measure

RATE = Objective("throughput")


def rounds(gain: float, noise: float, count: int, seed: int = 0) -> list[Round]:
    """Loads that differ by half, and servers by a factor."""
    random = np.random.default_rng(seed)
    rates = random.uniform(10, 20, count)
    factors = gain * np.exp(noise * random.normal(size=count))
    return [Round(measure(one), measure(one * f)) for one, f in zip(rates, factors, strict=True)]


def test_a_gain_is_found_whatever_the_loads_were() -> None:
    found = verdict(rounds(1.2, 0.01, 5), RATE)
    assert found.gain == pytest.approx(1.2, rel=0.02)
    assert 1.1 < found.low < found.gain < found.high < 1.3
    assert found.is_better


@pytest.mark.parametrize(("gain", "noise"), [(1.0, 0.05), (0.9, 0.01), (1.02, 0.1)])
def test_noise_and_losses_are_no_gain(gain: float, noise: float) -> None:
    assert not verdict(rounds(gain, noise, 5), RATE).is_better


@pytest.mark.parametrize("count", [3, 5, MOST_ROUNDS])
def test_the_interval_holds_as_often_as_it_says(count: int) -> None:
    found = [verdict(rounds(1.1, 0.05, count, seed), RATE) for seed in range(400)]
    assert 0.92 < np.mean([one.low < 1.1 < one.high for one in found]) < 0.98


def test_a_tuned_server_that_fails_is_not_better() -> None:
    broken = Round(measure(10), Measure(0, (), {"timeout": 1}))
    found = verdict([*rounds(1.5, 0.01, 5), broken], RATE)
    assert (len(found.gains), found.failures, found.is_better) == (5, 1, False)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_rounds_say_nothing(count: int) -> None:
    found = verdict(rounds(1.5, 0.01, count), RATE)
    assert (found.low, found.is_better) == (0.0, False)
