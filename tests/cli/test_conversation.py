"""A conversation: settings as typed, and files that may hold anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from plait.cli import conversation
from plait.cli.conversation import Conversation
from plait.core.errors import FormatError, NotFoundError, UserError
from plait.core.params import SamplingParams


@pytest.fixture(autouse=True)
def data_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return tmp_path


def new() -> Conversation:
    return Conversation(SamplingParams())


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("temperature", "0.2", 0.2),
        ("top_k", "40", 40),
        ("max_tokens", "12", 12),
        ("max_tokens", "none", None),
        ("seed", "None", None),
        ("ignore_eos", "true", True),
        ("skip_special_tokens", "off", False),
        ("stop", "the end", ("the end",)),
        ("logit_bias", "5=-1", {5: -1.0}),
    ],
)
def test_a_setting_is_what_was_typed(name: str, text: str, value: Any) -> None:
    talk = new()
    talk.set(name, text)
    assert getattr(talk.params, name) == value


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("temperature", "hot", "temperature is a number"),
        ("top_k", "1.5", "top_k is a whole number"),
        ("temperature", "-1", "out of range"),
        ("temperature", "none", "temperature is a number"),
        ("ignore_eos", "maybe", "true or false"),
        ("colour", "red", "'colour' is no setting"),
        ("n", "2", "'n' is no setting"),
    ],
)
def test_a_bad_setting_changes_nothing(name: str, text: str, complaint: str) -> None:
    talk = new()
    with pytest.raises(UserError, match=complaint):
        talk.set(name, text)
    assert talk.params == SamplingParams()


def test_the_system_message_comes_first() -> None:
    talk = new()
    talk.say("user", "hi")
    assert talk.prompt() == [{"role": "user", "content": "hi"}]
    talk.system = "Be brief."
    assert talk.prompt()[0] == {"role": "system", "content": "Be brief."}
    assert talk.messages == [{"role": "user", "content": "hi"}]


def test_saved_is_loaded(data_home: Path) -> None:
    talk = new()
    talk.system = "Sé breve."
    talk.say("user", 'a "quoted"\nline')
    talk.say("assistant", "ok 👍")
    assert talk.save("monday") == data_home / "plait" / "chats" / "monday.json"
    other = new()
    other.load("monday")
    assert (other.system, other.messages) == (talk.system, talk.messages)


def test_a_path_is_a_path(data_home: Path) -> None:
    path = data_home / "deep" / "talk.json"
    talk = new()
    talk.say("user", "hi")
    assert talk.save(str(path)) == path
    assert json.loads(path.read_text())["messages"][0]["content"] == "hi"


def test_a_missing_name_says_where_it_was_looked_for() -> None:
    with pytest.raises(NotFoundError, match="no saved conversation 'tuesday'") as caught:
        new().load("tuesday")
    assert "tuesday.json" in caught.value.hint


@pytest.mark.parametrize(
    "content",
    [
        "",
        "not json",
        "[]",
        "{}",
        '{"system": "", "messages": 5}',
        '{"system": "", "messages": [{"role": "user"}]}',
        '{"system": "", "messages": [{"role": "root", "content": "x"}]}',
        '{"system": "", "messages": [{"role": "user", "content": 5}]}',
        '{"system": "", "messages": [{"role": [], "content": "x"}]}',
        "[" * 100_000,
        b"\xff\xfe",
    ],
    ids=str,
)
def test_a_file_that_is_no_conversation_is_refused(data_home: Path, content: str | bytes) -> None:
    path = data_home / "bad.json"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    talk = new()
    with pytest.raises(FormatError, match="no saved conversation"):
        talk.load(str(path))
    assert talk.messages == []


def test_a_huge_file_is_not_read(data_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "MAX_FILE_BYTES", 10)
    path = data_home / "big.json"
    path.write_text("{" + " " * 10)
    with pytest.raises(FormatError, match="larger than 10 bytes"):
        new().load(str(path))
