"""Decoders that change what is said, over HTTP: contrastive and typical."""

from __future__ import annotations

from typing import Any

import pytest

from plait import LLM, SamplingParams
from tests.server.running import Running

PROMPT = "def double(x):\n    '''Twice x.\n\n    >>> double(2)\n    4\n    '''\n"
ASKED: dict[str, Any] = {"prompt": PROMPT, "max_tokens": 16, "temperature": 0}


def text(server: Running, **fields: Any) -> str:
    answer = server.post("/v1/completions", ASKED | fields)
    assert answer.status_code == 200, answer.text
    said: str = answer.json()["choices"][0]["text"]
    return said


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"negative_prompt": "Once upon a time there was a", "strength": 2},
        {"keep": 3, "mix": "logits", "uncertainty": 1, "head": 0.1},
    ],
    ids=["without examples", "negative prompt", "keep"],
)
def test_a_request_is_contrasted(server: Running, llm: LLM, options: dict[str, Any]) -> None:
    said = text(server, decoder="contrastive", options=options)
    params = SamplingParams(max_tokens=16, temperature=0)
    given = {name: str(value) for name, value in options.items()}
    (output,) = llm.generate(PROMPT, params, decoder="contrastive", options=given)
    assert said == output.outputs[0].text
    assert text(server, decoder="contrastive", options={**options, "strength": 0}) == text(server)
    if options:
        assert said != text(server)


def test_what_cannot_be_contrasted_is_refused(server: Running) -> None:
    for fields, words in (
        ({"prompt": "Once"}, "no examples"),
        ({"options": {"amateur": "some-model"}}, "not loaded"),
        ({"options": {"negative_prompt": "x" * 5000}}, "4096"),
    ):
        answer = server.post("/v1/completions", {**ASKED, "decoder": "contrastive", **fields})
        assert answer.status_code == 400
        assert words in answer.text


def test_an_answer_says_whether_it_is_lossy(server: Running) -> None:
    lossy = {"proposer": "lookahead", "decoder": "typical", "temperature": 1, "seed": 1}
    for fields, said in (({}, False), (lossy, True), ({**lossy, "temperature": 0}, False)):
        answer = server.post("/v1/completions", ASKED | fields).json()
        assert answer["timings"]["lossy"] is said
