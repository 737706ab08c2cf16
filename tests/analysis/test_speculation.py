"""What `plait bench speculative` counts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from plait.analysis import speculation
from plait.analysis.speculation import PLAIN, Gain, Way, Workload, choices, gains, measure
from plait.analysis.speculation_prompts import random
from tests.fakes import VOCAB, make_engine

WAYS = [Way("lookahead", 2), Way("lookahead"), Way("auto")]


def test_whoever_goes_first_finds_the_prompts_computed_as_the_others_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else it would decode while prompts are computed, before its time is taken."""
    engine = make_engine(num_pages=100, planner="speculative", max_num_batched_tokens=64)
    prompts = tuple(np.arange(count, 120 + count, dtype=np.int32) % 50 for count in (0, 1, 2))
    computed: list[int] = []
    plain = speculation._run

    def run(*given: Any) -> Any:
        before = engine.metrics.num_positions
        found = plain(*given)
        computed.append(engine.metrics.num_positions - before)
        return found

    monkeypatch.setattr(speculation, "_run", run)
    measure(engine, Workload("w", prompts), [], tokens=2, batch=3, group=0, turn=0)
    first, measured = computed
    assert first > 300
    assert measured < 100


@pytest.mark.parametrize("batch", [1, 2])
def test_gains_are_of_the_same_answers(batch: int) -> None:
    engine = make_engine(num_pages=100, planner="speculative", options={"width": "3"})
    prompts = tuple(np.array([1, 2, 3] * count, np.int32) for count in (3, 5, 7))
    copy = Workload("copy", prompts)
    runs = [
        run
        for turn in range(2)
        for group in range(0, 3, batch)
        for run in measure(engine, copy, WAYS, tokens=200, batch=batch, group=group, turn=turn)
    ]
    names = [PLAIN.name, "lookahead 2", "lookahead", "auto"]
    assert [run.way for run in runs[:4]] == names
    assert [run.way for run in runs[-4:]] == names[1:] + names[:1], "each round another one first"
    found = gains(runs)
    assert {gain.way for gain in found} == set(names[1:])
    for gain in found:
        assert gain.is_equal
        assert (gain.batch, gain.rounds) == (batch, 2)
        assert gain.tokens_per_forward >= 1
        assert gain.drafted_per_token > 0
        assert 0 <= min(gain.accepted) <= max(gain.accepted) <= 1
        assert len(gain.accepted) <= (2 if gain.way == "lookahead 2" else 3)
        assert gain.record()["speedup"] == gain.plain_seconds / gain.seconds
    wrong = [replace(run, answers="x") if run is runs[-2] else run for run in runs]
    assert [gain.way for gain in gains(wrong) if not gain.is_equal] == [runs[-2].way]


def test_seconds_are_medians_of_the_rounds_summed_over_the_prompts() -> None:
    engine = make_engine(num_pages=100, planner="speculative")
    copy = Workload("copy", (np.array([1, 2, 3], np.int32),))
    one = measure(engine, copy, WAYS[1:2], tokens=4, batch=1, group=0, turn=0)
    plain, fast = sorted(one, key=lambda run: run.way != PLAIN.name)
    runs = [
        replace(run, seconds=seconds, group=group, turn=turn)
        for run, times in ((plain, ((9, 8, 70), (2, 2, 2))), (fast, ((3, 30, 3), (1, 2, 50))))
        for group, own in enumerate(times)
        for turn, seconds in enumerate(own)
    ]
    (gain,) = gains(runs)
    assert (gain.plain_seconds, gain.seconds, gain.speedup) == (11, 5, 2.2)


def test_the_best_of_a_sweep_may_be_to_draft_nothing() -> None:
    def gain(way: str, batch: int, speedup: float) -> Gain:
        rest = (1, 1.0, (), 0.0, 1.0, speedup, 1.0, 0.0, 0.0, 0.0, True)
        return Gain("code", way, batch, *rest)

    found = [gain("lookahead 2", 1, 1.5), gain("auto", 1, 1.2)]
    found += [gain("lookahead 2", 8, 0.5), gain("auto", 8, 0.9)]
    one, eight = choices(found, "auto")
    assert (one.best, round(one.share, 9)) == ("lookahead 2", 0.8)
    assert (eight.best, round(eight.share, 9)) == ("none", 0.9)


def test_random_prompts_are_the_same_every_time() -> None:
    first, second = random(VOCAB, 2, 9), random(VOCAB, 2, 9)
    assert [p.tolist() for p in first.prompts] == [p.tolist() for p in second.prompts]
    assert {len(p) for p in first.prompts} == {9}
    assert first.hash == second.hash != random(VOCAB, 2, 8).hash
