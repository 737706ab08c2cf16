"""Decoders at equal accuracy, and a vote beside its schedules: by hand, and with a model that knows nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from train.asking import Outcomes, Question, Way, ask, outcomes, params

from plait import LLM
from plait.analysis.tasks import Item
from tests.fakes import FULL_TRAITS
from tests.llm.fakes import make_llm
from train import equal_accuracy, likelihoods, schedules

ROOT = Path(__file__).parents[2]
CURVE = np.array([(1.0, 90.0), (6.0, 40.0), (2.0, 89.5), (4.0, 85.0)])


@pytest.fixture
def llm() -> Iterator[LLM]:
    with pytest.MonkeyPatch.context() as patch, make_llm(patch, FULL_TRAITS) as one:
        yield one


@pytest.mark.parametrize(
    ("loss", "wanted"),
    [(0.0, 1.0), (0.5, 2.0), (1.0, 2 + 2 * 0.5 / 4.5), (5.0, 4.0), (50.0, 6.0), (90.0, 6.0)],
)
def test_the_speed_at_a_loss_lies_on_the_line(loss: float, wanted: float) -> None:
    assert equal_accuracy.speed(CURVE, loss) == pytest.approx(wanted)


def test_the_fastest_point_that_is_good_enough_counts_also_behind_a_worse_one() -> None:
    curve = np.array([(1.0, 90.0), (2.0, 50.0), (3.0, 90.0)])
    assert equal_accuracy.speed(curve, 1.0) == 3.0


def flat(speed: int, right: int) -> Outcomes:
    ones = np.ones(200, np.int64)
    return Outcomes(np.arange(200) < right, ones * 12, ones * 12 // speed, ones, ones)


def test_decoders_that_do_the_same_do_not_differ_and_a_faster_one_does() -> None:
    slow, fast = [flat(1, 190), flat(2, 190)], [flat(1, 190), flat(4, 190)]
    names = list(equal_accuracy.SETTINGS)
    curves = dict(zip(names, (slow, slow, fast), strict=True))
    padded = {name: [*c, *[c[-1]] * 5] for name, c in curves.items()}
    found = equal_accuracy._rows(padded)["at_a_loss_of"]["1 points"]
    assert found[names[1]]["over_threshold"] == {"value": 0.0, "interval": [0.0, 0.0]}
    assert found[names[2]]["over_threshold"] == {"value": 2.0, "interval": [2.0, 2.0]}
    assert found[names[2]]["tokens_per_forward"]["value"] == 4.0


def questions(llm: LLM) -> list[Question]:
    """Of which the answer with blocks of 4 is right, but for the last."""
    items = [Item(prompt, "!", 8) for prompt in ("ab", "cd", "dcb")]
    way = Way("", "auto", "threshold", {"block_size": "4"})
    found = []
    for item in items:
        own = params(Question.of(item), 0.0, 0)
        text = llm.generate(item.prompt, own, **choices(way))[0].outputs[0].text
        found.append(Question.of(replace(item, answer=text)))
    return [*found[:-1], Question.of(items[-1])]


def choices(way: Way) -> dict[str, object]:
    return {"planner": way.planner, "decoder": way.decoder, "options": dict(way.options)}


def test_a_row_has_the_sums_of_its_outcomes(llm: LLM) -> None:
    asked = questions(llm)
    way = Way("one", "auto", "threshold", {"block_size": "4", "threshold": "2"})
    each, row = outcomes(llm, asked, way), ask(llm, asked, way)
    assert row["items"] == 3
    assert row["right"] == each.right.sum()
    assert row["tokens_per_forward"] == pytest.approx(each.tokens.sum() / each.forwards.sum())
    assert row["share_of_canvas"] == 1.0


def test_a_vote_of_one_schedule_is_that_schedule(llm: LLM) -> None:
    found = schedules.compare(llm, questions(llm), (4,), {})
    assert found["rows"]["vote"] == found["rows"]["blocks of 4"]
    assert found["rows"]["vote"]["right"] == 2
    assert found["best_alone"] == "blocks of 4"
    assert (found["right_by_vote_alone"], found["right_by_best_alone"]) == (0, 0)


def test_a_vote_of_three_is_that_of_the_engine(llm: LLM) -> None:
    asked = questions(llm)
    found = schedules.compare(llm, asked, (2, 4, 8), {})
    right = 0
    for question in asked:
        texts = []
        for size in ("2", "4", "8"):
            way = Way("", "auto", "auto", {"block_size": size})
            own = params(question, 0.0, 0)
            texts += [llm.generate(question.prompt, own, **choices(way))[0].outputs[0].text]
        right += question.grade(Counter(texts).most_common(1)[0][0])
    assert found["rows"]["vote"]["right"] == right


@pytest.mark.parametrize("mode", ["autoregressive", "block", "canvas"])
def test_the_model_that_comes_along_finds_right_answers_probable(mode: str) -> None:
    with LLM(ROOT / "models" / "trimode", planner=mode, kv_memory=1 << 24, threads=1) as llm:
        judge = likelihoods.judge_of(llm, mode)
        sums = likelihoods.row(judge, "add", likelihoods.answers("add", 6))
        orders = likelihoods.row(judge, "shuffle", likelihoods.answers("shuffle", 6))
    assert sums["above_a_changed_digit"]["right"] == 6
    assert -2.0 < sums["mean"] < 0.0
    # Nobody who does not know the order gives more than -ln 8! on average; who knows nothing gives -8 ln 10.
    assert -13.0 < orders["mean"] < -9.5


def test_a_changed_answer_differs_in_one_digit() -> None:
    for _, answer in likelihoods.answers("add", 50):
        other = likelihoods.changed(answer)
        assert len(other) == len(answer)
        assert sum(a != b for a, b in zip(answer, other, strict=True)) == 1
