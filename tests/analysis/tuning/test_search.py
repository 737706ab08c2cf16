"""The search over a landscape that is known: what it finds, that it is the same again, and what chance finds."""

from __future__ import annotations

import sys

import pytest

from plait.analysis.tuning.search import History, Propose, by_chance, by_estimator, search
from plait.analysis.tuning.space import Settings
from plait.core.errors import UserError
from tests.analysis.tuning.fakes import SPACE, rate

POINTS = list(SPACE.points())
TRIALS = 24


def run(propose: Propose, trials: int = TRIALS, history: History | None = None) -> History:
    return search(SPACE, POINTS, history or [], propose, rate, lambda done: done < trials)


def best(history: History) -> float:
    return max(value for _, value in history if value is not None)


def test_the_default_is_the_first_and_nothing_is_tried_twice() -> None:
    found = run(by_estimator(0, is_time=False))
    assert found[0] == (SPACE.base, rate(SPACE.base))
    assert len({settings for settings, _ in found}) == len(found) == TRIALS


def test_the_same_seed_is_the_same_search_also_when_it_was_interrupted() -> None:
    whole = run(by_estimator(3, is_time=False))
    assert run(by_estimator(3, is_time=False), history=whole[:11]) == whole
    assert run(by_estimator(4, is_time=False)) != whole


def test_the_search_is_better_than_chance_at_as_many_trials() -> None:
    pairs = [(best(run(by_estimator(n, is_time=False))), best(run(by_chance(n)))) for n in range(5)]
    assert sum(searched >= chance for searched, chance in pairs) >= 3
    assert sum(searched for searched, _ in pairs) > sum(chance for _, chance in pairs)


def test_less_of_a_time_is_sought() -> None:
    propose = by_estimator(1, is_time=True)
    found = search(SPACE, POINTS, [], propose, lambda one: 500 - rate(one), lambda done: done < 24)
    late = [value for _, value in found[12:] if value is not None]
    early = [value for _, value in found[:8] if value is not None]
    assert sum(late) / len(late) < sum(early) / len(early)


def test_what_fails_is_left_alone() -> None:
    def fails(settings: Settings) -> float | None:
        return None if settings[0] >= 32 else rate(settings)

    found = search(
        SPACE, POINTS, [], by_estimator(0, is_time=False), fails, lambda done: done < TRIALS
    )
    late = [settings[0] for settings, _ in found[12:]]
    assert sum(seqs >= 32 for seqs in late) < len(late) / 3  # 3 of 7 by chance


def test_only_what_can_be_measured_is() -> None:
    recorded = POINTS[::9]
    found = search(SPACE, recorded, [], by_estimator(0, is_time=False), rate, lambda _: True)
    assert {settings for settings, _ in found} == set(recorded)


def test_without_optuna_the_way_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"pip install 'plait\[tune\]'"):
        by_estimator(0, is_time=False)
