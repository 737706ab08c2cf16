"""Greedy answers of SmolLM2 with every proposer are those of plain decoding, stop strings included."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from plait import LLM, SamplingParams
from plait.core.errors import UserError
from tests.oracle import MODELS

pytestmark = pytest.mark.timeout(3600)

TEXT = (Path(__file__).parents[1] / "fixtures" / "text" / "english.txt").read_text(encoding="utf-8")
STOPS = ["\n\n", " the end", "ing.", "I do not"]
PARTS = 20
PROPOSERS = ["none", "lookahead", f"draft:{MODELS[0]}", f"auto:{MODELS[0]}"]


def prompts(count: int, longest: int) -> list[str]:
    """Pieces of prose of 20 letters and more; every other one twice, so that there is something to copy."""
    pieces = []
    for number in range(count):
        start, length = number * len(TEXT) // count, 20 + 97 * number % longest
        piece = TEXT[start : start + length]
        pieces.append(piece + "\n" + piece if number % 2 else piece)
    return pieces


def answers(asked: list[str], tokens: int, batch: int, **settings: Any) -> list[Any]:
    params = SamplingParams(max_tokens=tokens, temperature=0.0, stop=STOPS)
    with LLM(MODELS[0], max_model_len=1024, max_num_seqs=batch, **settings) as llm:
        found = llm.generate(asked, params)
    return [(one.outputs[0].token_ids, one.outputs[0].text) for one in found]


@lru_cache(2)
def plain_answers(asked: tuple[str, ...], tokens: int) -> list[Any]:
    """In batches of 4; the proposer "none" alone shows that batches change nothing."""
    return answers([*asked], tokens, 4)


def same_as_plain(asked: list[str], tokens: int, batch: int, proposers: list[str]) -> None:
    plain = plain_answers(tuple(asked), tokens)
    for proposer in proposers:
        for options in _options(proposer):
            assert answers(asked, tokens, batch, proposer=proposer, options=options) == plain


def _options(proposer: str) -> Iterator[dict[str, str]]:
    yield {}
    if proposer == "lookahead":
        yield {"width": "6", "branches": "3"}


def test_every_proposer_gives_the_answers_of_plain_decoding() -> None:
    same_as_plain(prompts(4, 200), 16, 4, PROPOSERS[1:3])


@pytest.mark.large
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("proposer", PROPOSERS)
@pytest.mark.parametrize("part", range(PARTS))
def test_two_hundred_answers_are_those_of_plain_decoding(
    part: int, proposer: str, batch: int
) -> None:
    """In parts, so that a run that was ended goes on where it stood (pytest --lf, -k)."""
    same_as_plain(prompts(200, 700)[part::PARTS], 256, batch, [proposer])


@pytest.mark.large
def test_a_draft_model_of_another_family_is_refused() -> None:
    with pytest.raises(UserError, match="its vocabulary has"):
        LLM(MODELS[0], proposer="draft:qwen2.5-coder-0.5b")
