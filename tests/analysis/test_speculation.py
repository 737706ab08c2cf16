"""What `plait bench speculative` counts."""

from __future__ import annotations

import numpy as np
import pytest

from plait.analysis.speculation import Workload, measure, random_workload
from tests.fakes import VOCAB, make_engine


@pytest.mark.parametrize("batch", [1, 2])
def test_gains_are_of_the_same_answers(batch: int) -> None:
    engine = make_engine(num_pages=100, planner="speculative", options={"width": "3"})
    prompts = tuple(np.array([1, 2, 3] * count, np.int32) for count in (3, 5, 7))
    gains = measure(
        engine, Workload("copy", prompts), ["lookahead", "auto"], tokens=200, batch=batch, rounds=2
    )
    assert [gain.proposer for gain in gains] == ["lookahead", "auto"]
    for gain in gains:
        assert gain.is_equal
        assert gain.batch == batch
        assert gain.tokens_per_forward >= 1
        assert gain.drafted_per_token > 0
        assert 0 <= min(gain.accepted) <= max(gain.accepted) <= 1
        assert len(gain.accepted) <= 3
        assert gain.record()["speedup"] == gain.plain_seconds / gain.seconds


def test_random_prompts_are_the_same_every_time() -> None:
    first, second = random_workload(VOCAB, 2, 9), random_workload(VOCAB, 2, 9)
    assert [p.tolist() for p in first.prompts] == [p.tolist() for p in second.prompts]
    assert {len(p) for p in first.prompts} == {9}
