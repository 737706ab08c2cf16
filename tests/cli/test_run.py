"""`plait run`: the prompt goes in, only the answer comes out."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import plait.cli.run as command
from plait.cli.main import app
from plait.cli.run import join
from plait.core.config import EngineConfig
from plait.core.errors import CapacityError, UserError
from tests.cli.fakes import FakeSession


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[FakeSession]:
    """Every session that a command opened."""
    opened: list[FakeSession] = []

    def open_session(config: EngineConfig, template: Path | None) -> FakeSession:
        opened.append(FakeSession(config))
        return opened[-1]

    monkeypatch.delenv("PLAIT_MODEL", raising=False)
    monkeypatch.setattr(command, "Session", open_session)
    return opened


def plait(*arguments: str, stdin: str | bytes = "") -> Result:
    return CliRunner().invoke(app, list(arguments), input=stdin)


def ok(*arguments: str, stdin: str | bytes = "") -> Result:
    result = plait(*arguments, stdin=stdin)
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.parametrize(
    ("prompt", "piped", "joined"),
    [
        ("a", None, "a"),
        ("a", "", "a"),
        ("a", "b\n", "a\n\nb"),
        (None, "b\n\n", "b"),
        ("", "b", "b"),
        ("a", "  b\nc\n", "a\n\n  b\nc"),
        (None, None, ""),
    ],
)
def test_the_pipe_goes_after_the_prompt(prompt: str | None, piped: str | None, joined: str) -> None:
    assert join(prompt, piped) == joined


def test_only_the_answer_is_on_stdout(sessions: list[FakeSession]) -> None:
    result = ok("run", "hello", "--stats")
    assert result.stdout == "You said: hello\n"
    assert "tok/s" in result.stderr


def test_stdin_joins_the_prompt(sessions: list[FakeSession]) -> None:
    assert ok("run", "Sum up:", stdin="line 1\nline 2\n").stdout == (
        "You said: Sum up:\n\nline 1\nline 2\n"
    )
    assert ok("run", stdin="alone\n").stdout == "You said: alone\n"


def test_a_text_alone_is_run(sessions: list[FakeSession]) -> None:
    assert ok("why is it so?").stdout == "You said: why is it so?\n"


def test_an_instruct_model_gets_messages(sessions: list[FakeSession]) -> None:
    ok("run", "hi", "-s", "Be brief.")
    assert sessions[0].asked[0][0] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hi"},
    ]


@pytest.mark.parametrize("arguments", [["run", "hi", "--raw"], ["run", "base", "hi"]])
def test_raw_or_without_template_the_text_is_continued(
    sessions: list[FakeSession], arguments: list[str]
) -> None:
    ok(*arguments)
    assert sessions[0].asked[0][0] == "hi"


@pytest.mark.parametrize("arguments", [["run", "hi", "--raw"], ["run", "base", "hi"]])
def test_a_system_message_without_a_place_is_refused(
    sessions: list[FakeSession], arguments: list[str]
) -> None:
    result = plait(*arguments, "-s", "Be brief.")
    assert result.exit_code == 2
    assert "no place for a system message" in result.stderr
    assert result.stdout == ""


def test_model_and_options_reach_the_engine(sessions: list[FakeSession]) -> None:
    ok("run", "some-model", "hi", "--threads", "1", "-o", "x=1", "--ctx", "1K", "--offline")
    config = sessions[0].config
    assert (config.model, config.threads, config.max_model_len) == ("some-model", 1, 1024)
    assert (config.options, config.offline) == ({"x": "1"}, True)


def test_sampling_options_reach_the_request(sessions: list[FakeSession]) -> None:
    ok("run", "hi", "-n", "9", "-t", "0", "--stop", "END", "--seed", "4")
    params = sessions[0].asked[0][1]
    assert (params.max_tokens, params.temperature, params.stop, params.seed) == (9, 0, ("END",), 4)


def test_json_is_the_whole_record(sessions: list[FakeSession]) -> None:
    record = json.loads(ok("run", "hi", "--json", "--logprobs", "1").stdout)
    assert record["outputs"][0]["text"] == "an answer"
    assert record["timings"] == {
        "prompt_tokens": 10,
        "cached_tokens": 0,
        "tokens": 5,
        "forwards": 5,
        "time_to_first_token": 0.75,
        "total_time": 2.75,
        "prompt_per_second": 20.0,
        "decode_per_second": 2.0,
        "tokens_per_forward": 1.0,
        "drafted_tokens": 0,
        "accepted_tokens": 0,
        "lossy": False,
        "accepted_by_place": [],
        "draft_seconds": 0.0,
        "gain": None,
        "expected_gain": None,
    }


def test_several_samples_are_several_answers(sessions: list[FakeSession]) -> None:
    assert ok("run", "hi", "--samples", "3").stdout == "an answer\n" * 3


def test_no_prompt_is_refused_before_a_model_is_loaded(sessions: list[FakeSession]) -> None:
    result = plait("run")
    assert result.exit_code == 2
    assert "there is no prompt" in result.stderr
    assert sessions == []


def test_logprobs_without_a_record_are_refused(sessions: list[FakeSession]) -> None:
    result = plait("run", "hi", "--logprobs", "3")
    assert result.exit_code == 2
    assert "--json" in result.stderr
    assert sessions == []


def test_binary_stdin_is_refused_in_one_line(sessions: list[FakeSession]) -> None:
    result = plait("run", stdin=b"\x89PNG\r\n\x1a\n\xff")
    assert result.exit_code == 2
    assert result.stderr.startswith("plait: stdin is not UTF-8 text")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["run", "smollm2-135", "--offline"], "did you mean 'smollm2-135m'?"),
        (["run", "hi", "--top-p", "0"], "top_p=0.0 is out of range"),
        (["run", "hi", "--activations", "int3"], "choose one of: int8, f32"),
        (["run", "hi", "--ctx", "lots"], "is not a size"),
        (["run", "hi", "--logit-bias", "x"], "name=value"),
    ],
)
def test_a_users_mistake_is_two_lines_at_most(
    sessions: list[FakeSession], arguments: list[str], complaint: str
) -> None:
    result = plait(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert complaint in result.stderr
    assert result.stderr.startswith("plait: ")
    assert len(result.stderr.splitlines()) <= 2


@pytest.mark.parametrize(
    ("error", "code"), [(UserError("no"), 2), (CapacityError("no"), 3), (KeyboardInterrupt(), 130)]
)
def test_the_exit_code_is_the_errors(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    monkeypatch.setattr(
        command, "Session", lambda config, _: FakeSession(config, None, ["part", error])
    )
    result = plait("run", "hi")
    assert result.exit_code == code
    assert result.stdout == "part\n"


def test_debug_shows_the_traceback_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        command,
        "Session",
        lambda config, _: FakeSession(config, None, [UserError("what happened")]),
    )
    for arguments in (["--debug", "run", "hi"], ["run", "hi", "--debug"]):
        result = plait(*arguments)
        assert isinstance(result.exception, UserError)
    assert "what happened" in plait("run", "hi").stderr


def test_an_error_of_ours_is_not_dressed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        command, "Session", lambda config, _: FakeSession(config, None, [AssertionError("a bug")])
    )
    assert isinstance(plait("run", "hi").exception, AssertionError)


def test_at_a_terminal_without_prompt_it_is_a_chat(
    sessions: list[FakeSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    talked: list[Any] = []
    monkeypatch.setattr("plait.cli.chat.talk", lambda session, *_, **__: talked.append(session))
    master, slave = os.openpty()
    with os.fdopen(slave) as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        app(args=["run", "gemma3-270m"], standalone_mode=False)
    os.close(master)
    assert [session.name for session in talked] == ["gemma3-270m"]
