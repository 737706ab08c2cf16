"""`plait vote`: the winner on stdout, the votes on stderr."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from plait import LLM
from plait.cli.main import app
from plait.cli.session import Session
from tests.fakes import CAUSAL_TRAITS, FULL_TRAITS
from tests.llm.fakes import make_llm

ASKED = ["vote", "fake", "abc", "-n", "8", "--ignore-eos", "--seed", "3"]


@pytest.fixture
def llm(monkeypatch: pytest.MonkeyPatch) -> LLM:
    """Behind every session."""
    made = make_llm(monkeypatch, FULL_TRAITS)

    def init(self: Any, config: Any, template: Any) -> None:
        self.name, self.template, self.llm, self.output = config.model, template, made, None

    monkeypatch.setattr(Session, "__init__", init)
    return made


def test_the_winner_is_printed_and_the_votes_are_told(llm: LLM) -> None:
    ways = ["--block-size", "2", "--block-size", "8", "--seeds", "2"]
    record = json.loads(CliRunner().invoke(app, [*ASKED, *ways, "--json"]).stdout)
    assert [run["block_size"] for run in record["runs"]] == [2, 2, 8, 8]
    assert [run["seed"] for run in record["runs"]] == [3, 4, 3, 4]
    result = CliRunner().invoke(app, [*ASKED, *ways])
    assert result.exit_code == 0
    assert result.stdout == record["text"] + "\n"
    assert "1 of 4, blocks of 2:" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([*ASKED, "--extract", "word"], "extract='word' is not known"),
        (["vote", "fake", "", "-n", "8"], "there is no prompt"),
        ([*ASKED, "--samples", "2"], "n=2 has no meaning"),
    ],
)
def test_what_is_no_vote_is_refused(llm: LLM, arguments: list[str], complaint: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert complaint in result.stderr


def test_a_model_that_has_no_blocks_says_so(monkeypatch: pytest.MonkeyPatch, llm: LLM) -> None:
    left_to_right = make_llm(monkeypatch, CAUSAL_TRAITS)
    monkeypatch.setattr(llm, "_worker", left_to_right.worker)
    result = CliRunner().invoke(app, ASKED)
    assert result.exit_code == 2
    assert "block_size='8': no part in use has such an option" in result.stderr
