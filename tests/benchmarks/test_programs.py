"""benchmarks/programs.py: its items, and the way that programs are compared with."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    import programs

    return programs


def scripted(bench: Any, says: list[str]) -> Any:
    """An interface that goes on with these texts, one after the other, in pieces of 30 letters."""
    plain, left = bench.Plain(None), list(says)

    async def go_on(text: str, size: int = 30, *, turn: int = 0) -> str:
        piece = left[0][:30]
        left[0] = left[0][30:]
        if not left[0]:
            left.pop(0)
        plain.bill.calls += 1
        plain.bill.tokens += len(text) + len(piece)
        return piece

    plain.go_on = go_on
    return plain


@pytest.mark.parametrize("task", ["chain_of_thought", "react", "extraction", "dialogue"])
def test_items_are_different_and_always_the_same(bench: Any, task: str) -> None:
    make, _ = bench.TASKS[task]
    items = bench.items_of(make, 100)
    assert items == bench.items_of(make, 100)
    assert len({str(item) for item in items}) == 100
    assert make(random.Random(1)) == make(random.Random(1))


def test_an_answer_is_put_together_from_chunks(bench: Any) -> None:
    plain = scripted(bench, ["oak is a tree. So the odd one is pine", " rose."])
    found = asyncio.run(bench.plain_chain_of_thought(plain, ["oak", "rose"]))
    assert found == "rose"
    assert plain.bill.calls == 3


def test_tools_are_called_when_an_action_is_complete(bench: Any) -> None:
    says = [
        " I need it.\nAction: look up [dozen]",
        " I multiply.\nAction: calculate [2*12]",
        " I know.\nAction: answer [24]",
    ]
    plain = scripted(bench, says)
    assert asyncio.run(bench.plain_react(plain, "How many eggs are in 2 dozen?")) == 24


def test_a_form_is_filled_field_by_field(bench: Any) -> None:
    item = bench.bookings(random.Random(3))
    says = [f" {value}\n" for value in item.right.values()]
    plain = scripted(bench, [*says, " Thank you!\n"])
    found = asyncio.run(bench.plain_dialogue(plain, *item.asked))
    assert bench.is_right(found, item.right)
    assert plain.bill.calls == 5
    assert not bench.is_right(found | {"guests": 99}, item.right)


def test_what_is_no_answer_is_asked_for_again(bench: Any) -> None:
    good = '{"name": "A", "age": 3, "city": "B", "job": "other"}'
    plain = scripted(bench, ["[no json]", '[{"name": "A"}]', f"[{good},", f"{good}]\n"])
    found = asyncio.run(bench.plain_extraction(plain, "A text"))
    assert found == [{"name": "A", "age": 3, "city": "B", "job": "other"}] * 2
    none = scripted(bench, ["[no json]"] * 3)
    assert asyncio.run(bench.plain_extraction(none, "A text")) is None
