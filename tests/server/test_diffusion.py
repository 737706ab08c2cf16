"""Diffusion models behind the API: what a request may choose, what a stream shows, what is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from plait import LLM, SamplingParams
from plait.text.sketch import sketched
from tests.fakes import EOS, FULL_TRAITS, MASK
from tests.llm.fakes import make_llm
from tests.server.running import Running, running, served

PROMPT = [3, 1, 4, 1, 5]
ASKED: dict[str, Any] = {
    "prompt": PROMPT,
    "max_tokens": 24,
    "temperature": 0,
    "ignore_eos": True,
    "skip_special_tokens": False,
}
GREEDY = SamplingParams(max_tokens=24, temperature=0.0, ignore_eos=True, skip_special_tokens=False)
CHAT = {key: ASKED[key] for key in ("max_tokens", "temperature", "ignore_eos")}
SAY = [{"role": "user", "content": "ab"}]


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    with pytest.MonkeyPatch.context() as patch, make_llm(patch, FULL_TRAITS) as one:
        yield one


@pytest.fixture(scope="module")
def server(llm: LLM) -> Iterator[Running]:
    with running(lambda: served(llm, "masked")) as one:
        yield one.ready()


def text(server: Running, **fields: Any) -> str:
    answer = server.post("/v1/completions", ASKED | fields)
    assert answer.status_code == 200, answer.text
    said: str = answer.json()["choices"][0]["text"]
    return said


CHOICES: list[dict[str, Any]] = [
    {},
    {"options": {"block_size": 4}},
    {"options": {"block_size": 4, "threshold": 0.2}},
    {"options": {"block_size": "8", "reuse": "dual", "early_stop": False}},
    {"options": {"guidance": 1.5}, "decoder": "credit(threshold)"},
    {"planner": "canvas", "decoder": "fixed_steps", "options": {"steps": 3}},
]


def test_a_request_chooses_its_parts_and_their_options(server: Running, llm: LLM) -> None:
    texts = []
    for fields in CHOICES:
        choices = {
            **fields,
            "options": {k: str(v).lower() for k, v in fields.get("options", {}).items()},
        }
        (output,) = llm.generate({"prompt_token_ids": PROMPT}, GREEDY, **choices)
        assert text(server, **fields) == output.outputs[0].text
        texts.append(output.outputs[0].text)
    assert len(set(texts)) >= 4, "the choices make no difference"


def test_every_generating_endpoint_takes_them(server: Running) -> None:
    options = {"options": {"block_size": 4, "threshold": 0.2}}
    chats = [
        server.post("/v1/chat/completions", {"messages": SAY, **CHAT, **more}).json()
        for more in ({}, options)
    ]
    said = [chat["choices"][0]["message"]["content"] for chat in chats]
    assert said[0] != said[1]
    body = {"input": "ab", "max_output_tokens": 24, "temperature": 0, "ignore_eos": True}
    answers = [server.post("/v1/responses", {**body, **more}).json() for more in ({}, options)]
    assert [answer["output"][0]["content"][0]["text"] for answer in answers] == said


def test_stretches_of_a_prompt_are_filled_in(server: Running, llm: LLM) -> None:
    prompt, spans = [*PROMPT, 9, 10, 11, 12], [(2, 4), (6, 7)]
    params = SamplingParams(temperature=0.0, infill=spans, skip_special_tokens=False)
    (output,) = llm.generate({"prompt_token_ids": prompt}, params)
    fields = {**ASKED, "prompt": prompt, "infill": [[2, 4], [6, 7]], "max_tokens": None}
    answer = server.post("/v1/completions", fields).json()["choices"][0]
    assert answer["text"] == output.outputs[0].text
    assert answer["finish_reason"] == "length"
    assert len(output.outputs[0].token_ids) == 7
    assert llm.tokenizer.decode(prompt[7:], skip_special=False) in answer["text"]


def test_a_watched_stream_shows_the_canvas_and_its_text_stays_the_text(server: Running) -> None:
    fields = {**ASKED, "watch": True, "options": {"threshold": 0.3}}
    *chunks, end = server.events("/v1/completions", fields)
    assert end == "[DONE]"
    choices = [chunk["choices"][0] for chunk in chunks]
    assert "".join(one["text"] for one in choices) == text(server, options={"threshold": 0.3})
    canvases = [one["canvas"] for one in choices if "canvas" in one]
    assert len(canvases) >= 3
    num_open = [canvas.count(None) for canvas in canvases]
    assert num_open == sorted(num_open, reverse=True)
    assert any(isinstance(piece, str) for canvas in canvases for piece in canvas)
    plain = server.events("/v1/completions", ASKED)[:-1]
    assert not any("canvas" in chunk["choices"][0] for chunk in plain)


def test_clients_of_openai_read_a_watched_chat(server: Running) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:
        ask = client.chat.completions.create
        fields: dict[str, Any] = {"model": "masked", "messages": SAY, "max_tokens": 24}
        own = {"ignore_eos": True, "options": {"threshold": 0.3}}
        whole = ask(temperature=0, extra_body=own, **fields)
        stream = ask(temperature=0, stream=True, extra_body={**own, "watch": True}, **fields)
        choices = [chunk.choices[0] for chunk in stream]
    assert "".join(one.delta.content or "" for one in choices) == whole.choices[0].message.content
    assert sum(hasattr(one, "canvas") for one in choices) >= 3
    assert choices[-1].finish_reason == "length"


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("planner", {"planner": "canvass"}),
    ("planner", {"planner": "block"}),
    ("planner", {"planner": "autoregressive"}),
    ("decoder", {"decoder": "treshold"}),
    ("decoder", {"decoder": "threshold()"}),
    ("decoder", {"decoder": "credit(threshold"}),
    ("decoder", {"decoder": "credit(credit(threshold))"}),
    ("decoder", {"decoder": "threshold(credit)"}),
    ("decoder", {"decoder": "anneal(factor)"}),
    ("treshold", {"options": {"treshold": 0.5}}),
    ("threshold", {"options": {"threshold": "high"}}),
    ("threshold", {"options": {"threshold": -1}}),
    ("decoder.threshold", {"options": {"decoder.threshold": "high"}}),
    ("block_size", {"options": {"block_size": 0}}),
    ("block_size", {"options": {"block_size": 1.5}}),
    ("reuse", {"options": {"reuse": "all"}}),
    ("look_ahead", {"options": {"look_ahead": 3}}),
    ("guidance", {"options": {"guidance": 1, "reuse": "dual"}}),
    ("steps", {"decoder": "fixed_steps", "options": {"steps": 0}}),
    ("options", {"options": {"x" * 100: 1}}),
    ("options", {"options": {str(i): i for i in range(100)}}),
    ("options", {"options": [["threshold", 1]]}),
    ("infill", {"infill": [[2, 9]], "max_tokens": None}),
    ("infill", {"infill": [[0, 2]], "max_tokens": None}),
    ("infill", {"infill": [[1, 3], [2, 4]], "max_tokens": None}),
    ("infill", {"infill": [[1, 3, 4]], "max_tokens": None}),
    ("infill", {"infill": [[1, 3]], "max_tokens": None, "decoder": "joint"}),
    ("max_tokens", {"infill": [[1, 3]]}),
    ("echo", {"infill": [[1, 3]], "max_tokens": None, "echo": True}),
    ("watch", {"watch": True}),
]


@pytest.mark.parametrize("index", range(len(REFUSED)))
def test_what_cannot_be_is_refused_by_its_name(server: Running, index: int) -> None:
    param, fields = REFUSED[index]
    answer = server.post("/v1/completions", ASKED | fields)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"].split(".")[0] == param.split(".")[0]
    assert param in (error["param"], error["param"].split(".")[0])
    assert param.split(".")[-1][:20] in error["message"]


def test_a_huge_number_is_no_fault_of_the_server(server: Running) -> None:
    body = '{"prompt": [1], "options": {"threshold": 1' + 6000 * "0" + "}}"
    answer = server.http.post(
        "/v1/completions", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 400


def test_special_tokens_and_open_positions_of_a_canvas_are_no_text(llm: LLM) -> None:

    letters = llm.tokenizer.decode([0, 1])
    canvas = [None, 0, 1, EOS, None, None, MASK, 2]
    assert sketched(llm.tokenizer, canvas) == [None, letters, None, None, llm.tokenizer.decode([2])]
    assert sketched(llm.tokenizer, [EOS]) == []


def test_a_canvas_fits_a_grammar_and_so_does_what_is_filled_in(server: Running) -> None:
    asked = {"ignore_eos": False, "skip_special_tokens": True, "temperature": 1, "seed": 2}
    regex = {"regex": "(ab|c){3,9}d"}
    answer = server.post("/v1/completions", ASKED | asked | {"structured_outputs": regex})
    assert answer.status_code == 200, answer.text
    (choice,) = answer.json()["choices"]
    assert choice["finish_reason"] == "stop"
    assert re.fullmatch("(ab|c){3,9}d", choice["text"])
    ids = server.post("/tokenize", {"prompt": "xabcccccd"}).json()["tokens"]
    assert len(ids) == 9
    fields = {"prompt": ids, "infill": [[3, 8]], "max_tokens": None}
    filled = server.post(
        "/v1/completions",
        ASKED | asked | fields | {"structured_outputs": {**regex, "begins_at": 1}},
    )
    assert filled.status_code == 200, filled.text
    assert re.fullmatch("(ab|c){3,9}d", "ab" + filled.json()["choices"][0]["text"])
    refused = server.post(
        "/v1/completions", ASKED | asked | fields | {"structured_outputs": {"regex": "abd"}}
    )
    assert refused.status_code == 400
    assert "stretches" in refused.json()["error"]["message"]
