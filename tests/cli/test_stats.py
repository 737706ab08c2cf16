"""What --stats says of drafting."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

from plait.cli.stats import drafting
from tests.cli.fakes import Choice, Times


def output(times: Times) -> Any:
    choices = [Choice(0, "x", [1, 2, 3, 4, 5])]
    return SimpleNamespace(metrics=times, prompt_token_ids=[1, 2], outputs=choices)


def test_a_request_that_could_not_draft_says_nothing_of_it() -> None:
    assert drafting(output(Times())) == []


def test_gain_cost_places_and_reasons_are_told() -> None:
    times = Times(
        drafts=Counter({0: 4, 1: 2}),
        accepted=Counter({0: 3, 1: 1}),
        draft_seconds=0.25,
        plain_seconds=3.0,
        expected_seconds=2.0,
        expected_plain_seconds=5.0,
        draft_notes={"draft": "draft: 75% right lately, 2 at once"},
    )
    line, reason = drafting(output(times))
    assert "1.50 x of plain decoding" in line
    assert "2.50 x expected" in line
    assert "250.0 ms" in line
    assert "75% 50%" in line
    assert reason == "  draft: 75% right lately, 2 at once"
