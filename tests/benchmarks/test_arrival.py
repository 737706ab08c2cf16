"""benchmarks/arrival.py: which requests count, and what their figures are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    import arrival

    return arrival


def answer(bench: Any, first: float, last: float, tokens: int = 11) -> Any:
    return bench.Sample(first, first, times=[first, last], tokens=tokens, prompt_tokens=9)


def test_those_that_ran_while_a_long_prompt_was_computed_count(bench: Any) -> None:
    long = [answer(bench, 10.0, 12.0), answer(bench, 30.0, 31.0)]
    long[0].times = [14.0]
    long[1].began, long[1].times = 29.0, [30.0]
    spans = [(2.0, 9.0), (2.0, 11.0), (13.0, 20.0), (15.0, 28.0), (29.5, 29.6)]
    samples = [answer(bench, *span) for span in spans]
    assert [s.times[0] for s in bench.affected(samples, long)] == [2.0, 13.0, 29.5]


def test_the_ratio_is_that_of_times_per_token(bench: Any) -> None:
    long = answer(bench, 10.0, 14.0)
    long.began, long.times = 10.0, [14.0]
    usual = {"running": [answer(bench, 10.0, 11.0), answer(bench, 0.0, 9.0)], "long": []}
    hit = {"running": [answer(bench, 11.0, 12.5), answer(bench, 20.0, 29.0)], "long": [long]}
    found = bench.summed_up({"usual": [usual], "arrival": [hit]}, warm=4.0)
    assert found["ratio"] == {"p50": 1.5, "p99": 1.5}
    assert (found["prompts"]["answered"], found["errors"]) == (1, 0)
    assert found["prompts"]["time_to_first_token"]["max"] == 4.0
    with pytest.raises(SystemExit, match="shows nothing"):
        bench.summed_up({"usual": [usual], "arrival": [usual]}, warm=4.0)
