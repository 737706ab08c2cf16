"""What a measured load is worth."""

from __future__ import annotations

import pytest

from plait.analysis.load import Sample
from plait.analysis.tuning.objective import NAMES, Answer, Measure, Objective, measured
from plait.core.errors import UserError

MEASURE = Measure(
    0,
    (
        Answer(0.0, 0.0, 0.5, 2.5, 3.0, 9, 11),  # 0.5 s to the first token, 0.2 s per token
        Answer(1.0, 1.1, 3.0, 4.0, 4.0, 9, 11),  # 2 s, 0.1 s
        Answer(2.0, 2.0, 2.2, 2.2, 5.0, 9, 1),
    ),
)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("throughput", 23 / 5),
        ("goodput", 1 / 5),
        ("p50-ttft", 500.0),
        ("p50-tpot", 150.0),
        ("p99-tpot", 199.0),
        ("p50-latency", 3000.0),
    ],
)
def test_the_value_of_a_load(name: str, value: float) -> None:
    assert Objective(name, (1.0, 0.15)).value(MEASURE) == pytest.approx(value)


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_that_is_missing_is_worth_nothing(name: str) -> None:
    assert Objective(name).value(Measure(0, MEASURE.answers, {"timeout": 1})) is None
    assert Objective(name).value(Measure(0, ())) is None


def test_better_is_more_of_a_rate_and_less_of_a_time() -> None:
    assert Objective("goodput").gain(2.0, 3.0) == 1.5
    assert Objective("p99-tpot").gain(3.0, 2.0) == 1.5
    assert Objective("goodput").gain(0.0, 2.0) is None
    assert Objective("goodput").gain(None, 2.0) is None


def test_samples_become_answers_and_errors_are_counted() -> None:
    good = Sample(0.0, 0.1, times=[0.2, 0.6], ended=0.7, prompt_tokens=5, tokens=2)
    empty = Sample(0.0, 0.1, ended=0.7, tokens=1)
    full = Sample(0.0, 0.1, error="429", said="full")
    found = measured(3, [good, empty, full, full], 0.5)
    assert found.answers == (Answer(0.0, 0.1, 0.2, 0.6, 0.7, 5, 2),)
    assert found.errors == {"empty": 1, "429 full": 2}
    assert (found.seed, found.load_average) == (3, 0.5)


def test_an_objective_that_is_none_is_said() -> None:
    with pytest.raises(UserError, match="'p98-tpot' is no objective"):
        Objective("p98-tpot")
