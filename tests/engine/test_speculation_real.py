"""Greedy answers of SmolLM2 with drafts are those of plain decoding, stop strings included: four prompts; for all there
are see benchmarks/lossless.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from plait import LLM, SamplingParams
from plait.core.errors import UserError
from tests.oracle import MODELS

TEXT = (Path(__file__).parents[1] / "fixtures" / "text" / "english.txt").read_text(encoding="utf-8")
STOPS = ["\n\n", " the end", "ing.", "I do not"]


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


@pytest.mark.parametrize(
    ("proposer", "options"),
    [
        ("auto", {}),
        ("lookahead", {}),
        ("lookahead", {"width": "6", "branches": "3"}),
        (f"draft:{MODELS[0]}", {}),
    ],
)
def test_drafts_change_no_answer(plain: list[Any], proposer: str, options: dict[str, str]) -> None:
    assert answers(prompts(4, 200), 16, 4, proposer=proposer, options=options) == plain


@pytest.fixture(scope="module")
def plain() -> list[Any]:
    return answers(prompts(4, 200), 16, 4, proposer="none")


@pytest.mark.large
def test_a_draft_model_of_another_family_is_refused() -> None:
    with pytest.raises(UserError, match="another vocabulary"):
        LLM(MODELS[0], proposer="draft:qwen2.5-coder-0.5b")
