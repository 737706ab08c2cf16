"""Drafting from the Python API: stop strings, and a draft model of another vocabulary."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from plait import SamplingParams
from plait.core.errors import UserError
from tests.llm.fakes import NAMES, TOKENIZER, make_llm

PROMPTS = ["abcabcabcabc", "hello hello hello", "x", "the end. the end. the"]


def outcomes(monkeypatch: pytest.MonkeyPatch, params: SamplingParams, **settings: Any) -> list[Any]:
    with make_llm(monkeypatch, **{"proposer": "none", **settings}) as one:
        found = one.generate([prompt.replace(" ", "") for prompt in PROMPTS], params)
    return [
        (out.text, out.token_ids, out.finish_reason, out.stop_reason)
        for answer in found
        for out in answer.outputs
    ]


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("branches", ["1", "3"])
@pytest.mark.parametrize("included", [False, True])
def test_stop_strings_end_answers_where_plain_decoding_ends_them(
    monkeypatch: pytest.MonkeyPatch, batch: int, branches: str, included: bool
) -> None:
    whole = SamplingParams(max_tokens=60, temperature=0.0, ignore_eos=True)
    texts = [text for text, *_ in outcomes(monkeypatch, whole)]
    stops = [part for text in texts for part in (text[11:13], text[30:33]) if part]
    params = SamplingParams(
        max_tokens=60,
        temperature=0.0,
        ignore_eos=True,
        stop=stops,
        include_stop_str_in_output=included,
    )
    plain = outcomes(monkeypatch, params, max_num_seqs=batch)
    assert any(reason == "stop" for _, _, reason, _ in plain)
    for options in ({"width": "5", "branches": branches}, {"branches": branches}):
        fast = outcomes(
            monkeypatch, params, max_num_seqs=batch, proposer="lookahead", options=options
        )
        assert fast == plain


@pytest.mark.parametrize("proposer", ["lookahead", "auto"])
def test_a_corpus_changes_no_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, proposer: str
) -> None:
    """Of what plain decoding says and of other text: most drafts are right, many are wrong."""
    monkeypatch.setenv("PLAIT_HOME", str(tmp_path / "cache"))
    whole = SamplingParams(max_tokens=60, temperature=0.0, ignore_eos=True)
    plain = outcomes(monkeypatch, whole)
    folder = tmp_path / "texts"
    folder.mkdir()
    for number, (text, *_) in enumerate(plain):
        (folder / f"{number}.txt").write_text(text[:40] + "hello" + text[40:], encoding="utf-8")
    settings = {"proposer": proposer, "corpus": str(folder)}
    for options in ({"width": "5"}, {"width": "6", "branches": "3"}, {}):
        found = outcomes(monkeypatch, whole, options=options, **settings)
        assert found == plain


def test_a_draft_model_of_another_vocabulary_is_refused_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = copy.deepcopy(TOKENIZER)
    names = [*NAMES]
    names[7], names[8] = names[8], names[7]
    other["tokenizer.ggml.tokens"] = names
    with make_llm(monkeypatch) as one:
        assert one._read_draft(copy.deepcopy(TOKENIZER)) == one.tokenizer.eos_ids
        with pytest.raises(UserError, match="another vocabulary: token 7 is") as caught:
            one._read_draft(other)
    assert "same family" in str(caught.value.hint)
