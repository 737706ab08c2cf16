"""Session: between a command and `plait.llm.LLM`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import plait.llm
from plait.cli.session import FailedError, Session, read_template
from plait.core.config import EngineConfig
from plait.core.errors import NotFoundError, UserError
from plait.core.params import SamplingParams
from plait.llm import CompletionOutput, RequestOutput
from plait.weights import hub

CHAT = [{"role": "user", "content": "hi"}]


class FakeLLM:
    """Streams growing records. made: what each was made with. closed: streams that were left."""

    made: list[FakeLLM] = []
    words = ("2 threads",)
    context_length = 64
    vocab_size = 10
    has_chat_template = False
    texts = ("He", "Hell", "Hello")
    reason = "stop"

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.prompts: list[Any] = []
        self.watched: list[bool] = []
        self.closed = False
        self.made.append(self)

    def stream(
        self, prompt: Any, params: SamplingParams, *, watch: bool = False
    ) -> Iterator[RequestOutput]:
        self.prompts.append(prompt)
        self.watched.append(watch)
        try:
            for text in self.texts:
                last = text == self.texts[-1]
                reason = self.reason if last else None
                error = "out of luck" if reason == "error" else None
                choice = CompletionOutput(0, text, [1], finish_reason=reason, error=error)
                choice.canvas = [None] * (5 - len(text)) if watch and not last else None
                yield RequestOutput("0", None, [1, 2], [choice], finished=last)
        finally:
            self.closed = True


@pytest.fixture
def llm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[FakeLLM]:
    monkeypatch.setattr(plait.llm, "LLM", FakeLLM)
    monkeypatch.setattr(hub, "resolve", lambda name, **_: tmp_path)
    monkeypatch.setattr(FakeLLM, "made", [])
    return FakeLLM


def test_every_setting_reaches_the_model(llm: type[FakeLLM]) -> None:
    config = EngineConfig("some-model", threads=1, options={"a": "b"}, max_model_len=64)
    session = Session(config)
    assert EngineConfig(**llm.made[0].settings) == config
    assert (session.name, session.words, session.context_length) == (
        *("some-model", ("2 threads",)),
        64,
    )
    assert not session.has_template


def test_pieces_together_are_the_text(llm: type[FakeLLM]) -> None:
    session = Session(EngineConfig())
    assert list(session.stream("hi", SamplingParams())) == ["He", "ll", "o"]
    assert session.output is not None
    assert session.output.outputs[0].text == "Hello"
    assert session.generate(CHAT, SamplingParams()).finished
    assert llm.made[0].prompts == ["hi", CHAT]


def test_what_may_still_change_is_shown_after_the_piece_before_it(
    llm: type[FakeLLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llm, "tokenizer", None, raising=False)
    session, seen = Session(EngineConfig()), list[Any]()
    for piece in session.stream("hi", SamplingParams(), seen.append):
        seen.append(piece)
    assert seen == ["He", [None] * 3, "ll", [None], "o"]
    list(session.stream("hi", SamplingParams()))
    assert llm.made[0].watched == [True, False]


def test_leaving_early_cancels(llm: type[FakeLLM]) -> None:
    session = Session(EngineConfig())
    pieces = session.stream("hi", SamplingParams())
    next(pieces)
    assert not llm.made[0].closed
    pieces.close()  # type: ignore[attr-defined]
    assert llm.made[0].closed


def test_an_answer_that_failed_is_an_error(
    llm: type[FakeLLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llm, "reason", "error")
    session = Session(EngineConfig())
    with pytest.raises(FailedError, match="out of luck") as caught:
        list(session.stream("hi", SamplingParams()))
    assert caught.value.exit_code == 1
    with pytest.raises(FailedError):
        session.generate("hi", SamplingParams())


def test_an_unknown_name_is_refused_before_anything_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plait.llm, "LLM", None)
    with pytest.raises(NotFoundError):
        Session(EngineConfig("smollm2-135"))


def test_a_template_of_ones_own(
    llm: type[FakeLLM], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def encode_chat(tokenizer: Any, messages: Any, *, template: str, most_tokens: int) -> list[int]:
        seen.append((messages, template, most_tokens))
        return [7, 8]

    monkeypatch.setattr("plait.text.chat.encode_chat", encode_chat)
    monkeypatch.setattr(llm, "tokenizer", None, raising=False)
    file = tmp_path / "chat.jinja"
    file.write_text("{{ messages }}")
    session = Session(EngineConfig(), file)
    assert session.has_template
    list(session.stream(CHAT, SamplingParams()))
    assert seen == [(CHAT, "{{ messages }}", session.context_length)]
    assert llm.made[0].prompts == [{"prompt_token_ids": [7, 8]}]


def test_what_is_no_template_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "huge").write_bytes(b" " * ((1 << 20) + 1))
    for name in ("missing", "binary", "huge", "."):
        with pytest.raises(UserError, match="is no chat template"):
            read_template(tmp_path / name)
