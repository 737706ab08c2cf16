"""Flags, environment and settings file of `plait serve`: which one wins, and what is refused."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import plait.cli.serve as command
from plait.cli.main import app
from plait.cli.settings_file import read
from plait.core.config import EngineConfig
from plait.core.errors import UserError
from plait.server import lifecycle
from plait.server.settings import ServerConfig


class Seen:
    """What the server would have been started with."""

    server: ServerConfig
    engine: EngineConfig


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    one = Seen()

    def serve(server: ServerConfig, listener: socket.socket, load: Any, announce: Any) -> None:
        listener.close()
        one.server = server
        load()

    def take(engine: EngineConfig, server: ServerConfig, template: Path | None) -> None:
        one.engine = engine

    monkeypatch.setattr(lifecycle, "serve", serve)
    monkeypatch.setattr(command, "_open", take)
    monkeypatch.setattr(command, "fetch", lambda name, offline: Path(name))
    return one


def run(*arguments: str, **environment: str) -> Any:
    return CliRunner().invoke(app, ["serve", "m", "--port", "0", *arguments], env=environment)


def test_a_flag_wins_over_the_environment_and_that_over_the_file(
    seen: Seen, tmp_path: Path
) -> None:
    file = tmp_path / "plait.toml"
    file.write_text(
        'max_num_seqs = 3\nmax_choices = 5\ngrace_seconds = 7\nctx = "1K"\n'
        'served_names = ["a", "b"]\noffline = true\n'.replace("ctx", "max_model_len")
    )
    done = run(
        *("--config", str(file), "--max-choices", "9"),
        PLAIT_MAX_CHOICES="8",
        PLAIT_GRACE_SECONDS="6",
    )
    assert done.exit_code == 0, done.output
    assert (seen.server.max_choices, seen.server.grace_seconds) == (9, 6)
    assert (seen.engine.max_num_seqs, seen.engine.max_model_len) == (3, 1024)
    assert seen.server.served_names == ("a", "b")
    assert seen.engine.offline


def test_keys_of_the_environment(seen: Seen) -> None:
    assert run(PLAIT_API_KEYS="one two").exit_code == 0
    assert seen.server.api_keys == ("one", "two")


def test_every_flag_has_an_environment_variable_in_the_help() -> None:
    found = CliRunner().invoke(app, ["serve", "--help"], env={"COLUMNS": "200"}).output
    for name in (*ServerConfig.__dataclass_fields__, *EngineConfig.__dataclass_fields__):
        assert f"PLAIT_{name.upper()}" in found, name
    assert "PLAIT_CONFIG" in found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max_num_seq = 3", "did you mean 'max_num_seqs'"),
        ("= 3", "is no settings file"),
        ("config = 'x'", "which is no setting"),
    ],
)
def test_a_file_that_is_wrong_is_refused(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "plait.toml"
    file.write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        read(file, {"max_num_seqs", "port"})
    assert words in str(caught.value)


def test_a_port_that_is_taken_is_said_in_words(seen: Seen) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        done = CliRunner().invoke(app, ["serve", "m", "--port", port])
    assert done.exit_code == 2
    assert "cannot be used" in done.output
    assert "--port 0" in done.output
