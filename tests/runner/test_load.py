"""The tokenizer is built while the weights are packed: both end well, or nothing stays open."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from plait.core.config import EngineConfig
from plait.core.errors import FormatError
from plait.runner import load as loading
from tests.synthetic import LLAMA, checkpoint

CONFIG = EngineConfig("m", threads=1, max_model_len=64)


class Opened:
    """A checkpoint in memory with the rest of what a file has."""

    tokenizer_source = "what a tokenizer is built from"
    file_bytes = 0

    def __init__(self) -> None:
        self.inner = checkpoint(LLAMA, matrix_format="q8_0")
        self.events: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def forget_tokenizer(self) -> None:
        self.events.append("tokenizer forgotten")

    def close(self) -> None:
        self.events.append("closed")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    found = Opened()
    monkeypatch.setattr(loading, "open_checkpoint", lambda path: found)
    return found


def test_the_ends_of_the_tokenizer_count_too(opened: Opened) -> None:
    def read_ends(source: Any) -> frozenset[int]:
        assert source == opened.tokenizer_source
        assert opened.events == []
        return frozenset({7})

    loaded = loading.load(CONFIG, Path("m"), read_ends)
    assert loaded.traits.eos_ids == {LLAMA["eos_token_id"], 7}
    assert opened.events == ["tokenizer forgotten"]
    loaded.close()
    assert opened.events[1:] == ["closed"]


def test_a_bad_tokenizer_is_an_error_and_closes_the_file(opened: Opened) -> None:
    def read_ends(source: Any) -> frozenset[int]:
        raise FormatError("a bad tokenizer")

    with pytest.raises(FormatError, match="a bad tokenizer"):
        loading.load(CONFIG, Path("m"), read_ends)
    assert opened.events == ["closed"]


def test_bad_weights_wait_for_the_tokenizer_before_the_file_is_closed(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Any:
        raise FormatError("bad weights")

    def read_ends(source: Any) -> frozenset[int]:
        time.sleep(0.1)
        opened.events.append("tokenizer built")
        return frozenset()

    monkeypatch.setattr(loading, "trace", refuse)
    with pytest.raises(FormatError, match="bad weights"):
        loading.load(CONFIG, Path("m"), read_ends)
    assert opened.events == ["tokenizer built", "tokenizer forgotten", "closed"]
