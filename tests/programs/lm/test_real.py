"""Programs on real models: constraints hold whatever is drawn, and the gallery runs."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from plait import LLM
from plait.programs.lm import (
    Constraint,
    Prompt,
    characters,
    contains,
    integer,
    number,
    one_of,
    regex,
    run,
    run_many,
    sample,
    stops_at,
    stops_before,
    tokens,
    words,
)
from plait.programs.lm.script import load

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
MODELS = ["smollm2-135m", "qwen2.5-coder-0.5b"]
COLOURS = ["red", "green", "dark green", "blue"]

SUITE: list[tuple[Any, Constraint, Callable[[Any], bool]]] = [
    (str, one_of(COLOURS), lambda v: v in COLOURS),
    (str, regex("[A-Z][a-z]{2,8}"), lambda v: bool(re.fullmatch("[A-Z][a-z]{2,8}", v))),
    (int, integer(-20, 365), lambda v: type(v) is int and -20 <= v <= 365),
    (float, number(2), lambda v: type(v) is float),
    (list[int], regex(r"\[[0-9, ]{1,12}\]"), lambda v: all(type(one) is int for one in v)),
    (str, stops_at("."), lambda v: v.find(".") in (-1, len(v) - 1)),
    (str, stops_before("\n", "."), lambda v: "\n" not in v and "." not in v),
    (str, words(2, 4) & stops_before("\n"), lambda v: 2 <= len(v.split()) <= 4 and "\n" not in v),
    (str, characters(5, 20) & regex("[^\n]*"), lambda v: 5 <= len(v) <= 20 and "\n" not in v),
    (str, tokens(at_most=7), lambda v: len(v) < 200),
    (str, ~contains("e") & stops_at("\n"), lambda v: "e" not in v),
    (str, one_of(COLOURS) | integer(0, 9), lambda v: v in COLOURS or v in "0123456789"),
    (str, ~(one_of(COLOURS) | regex("[a-z]*")) & characters(1, 9), lambda v: v not in COLOURS),
    (str, regex("[a-z ]+") & ~contains("the") & characters(3, 30), lambda v: "the" not in v),
]


async def one(p: Prompt, number: int) -> Any:
    """Fill one hole of the suite, at temperature 1."""
    kind, constraint, _ = SUITE[number]
    p += f"Case {number}. My favourite thing about the sea is "
    return await p.gen(kind, constraint, max_tokens=60, decoder=sample(1.0))


def holds(llm: LLM, runs: int) -> int:
    """How many answers fit."""
    count = 0
    for start in range(0, runs, len(SUITE)):
        numbers = range(min(len(SUITE), runs - start))
        done = run_many(llm, one, [(n,) for n in numbers], seed=start)
        for n, found in zip(numbers, done, strict=True):
            assert SUITE[n][2](found.value), (n, start, found.value)
            count += 1
    return count


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    with LLM(MODELS[0], max_model_len=1024, proposer="none") as made:
        yield made


def test_constraints_hold(llm: LLM) -> None:
    assert holds(llm, 2 * len(SUITE)) == 2 * len(SUITE)


@pytest.mark.large
@pytest.mark.parametrize("model", MODELS)
def test_constraints_hold_in_200_of_200(model: str) -> None:
    with LLM(model, max_model_len=1024, proposer="none") as made:
        assert holds(made, 200) == 200


def program(name: str) -> Any:
    return load(EXAMPLES / f"{name}.py").program


def test_a_chain_of_thought_ends_with_one_of_the_words(llm: LLM) -> None:
    names = ["oak", "rose", "birch", "pine"]
    done = run(llm, program("chain_of_thought"), names)
    assert done.value in names
    assert done.ledger.resent_tokens > done.ledger.billable_tokens


def test_react_uses_its_tools_and_no_others(llm: LLM) -> None:
    done = run(llm, program("react"), "How many sheets are in 3 reams?")
    assert done.value is None or done.value >= 0
    actions = re.findall(r"^Action: (.*) \[", done.text, re.MULTILINE)
    assert set(actions) <= {"look up", "calculate", "answer"}
    # The few-shot prompt has six; nothing of what came before a step is computed again.
    assert len(actions) > 6
    assert done.ledger.positions <= done.ledger.billable_tokens


def test_the_calculator_knows_arithmetic_and_nothing_else() -> None:
    calculate = load(EXAMPLES / "react.py").program.__globals__["calculate"]
    assert calculate("2*(3+4) - 1") == "13"
    assert calculate("1/4") == "0.25"
    assert calculate(" -7 ") == "-7"
    for wrong in ("1/0", "2**9", "__import__('os')", "(", "a", "", "9" * 5000, "(" * 200):
        assert calculate(wrong).startswith("no number") or wrong.startswith("9")


def test_extraction_fits_its_schema(llm: LLM) -> None:
    found = run(llm, program("extraction"), "Mia Stone, 34, teaches at a school in Lima.").value
    assert type(found) is list
    for person in found:
        assert list(person) == ["name", "age", "city", "job"]
        assert type(person["age"]) is int


def test_calibrated_probabilities_sum_to_one_and_share_the_examples(llm: LLM) -> None:
    llm.reset_prefix_cache()
    done = run(llm, program("classification"), "The soup was cold and the waiter rude.")
    assert sum(done.value.values()) == pytest.approx(1.0)
    assert done.ledger.positions < done.ledger.billable_tokens + 8
    again = run(llm, program("classification"), "The soup was cold and the waiter rude.")
    assert again.value == done.value


def test_a_form_is_filled_with_values_of_its_types(llm: LLM) -> None:
    said = "I'm Ann Lee; next friday at eight; the four of us; by the window"
    found = run(llm, program("dialogue"), said).value
    assert found["day"].endswith("day")
    assert 1 <= found["guests"] <= 20
    assert found["table"] in ("window", "garden", "bar", "any")


def test_a_form_without_answers_says_what_is_missing() -> None:
    command = [sys.executable, "-m", "plait", "program", str(EXAMPLES / "dialogue.py")]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert "nobody answers 'What is your name?'" in done.stderr


def test_the_gallery_has_a_summary_for_each_program() -> None:
    files = sorted(EXAMPLES.glob("*.py"))
    assert len(files) == 5
    for file in files:
        script = load(file)
        assert script.summary.endswith("?") or script.summary[0].isupper()
        assert script.usage
