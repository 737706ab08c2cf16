"""`plait chat`: lines in, answers out, slashes do what they say."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import plait.cli.chat as command
from plait.cli.conversation import Conversation
from plait.cli.main import app
from plait.cli.repl import Repl, read_message
from plait.cli.sketch import Sketch, rows
from plait.core.errors import UserError
from plait.core.params import SamplingParams
from tests.cli.fakes import FakeSession


def new(pieces: list[Any] | None = None, *, stats: bool = False) -> Repl:
    return Repl(FakeSession(pieces=pieces), Conversation(SamplingParams()), stats=stats)


def said(repl: Repl) -> list[tuple[str, str]]:
    return [(m["role"], m["content"]) for m in repl.conversation.messages]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put lines into stdin."""
    return lambda text: monkeypatch.setattr("sys.stdin", io.StringIO(text))


def test_a_question_and_its_answer_are_remembered(capsys: pytest.CaptureFixture[str]) -> None:
    repl = new()
    repl.handle("hello")
    repl.handle("again")
    assert capsys.readouterr().out == "You said: hello\nYou said: again\n"
    assert said(repl) == [
        ("user", "hello"),
        ("assistant", "You said: hello"),
        ("user", "again"),
        ("assistant", "You said: again"),
    ]


def test_the_model_sees_what_was_said_at_the_time() -> None:
    seen: list[list[str]] = []
    repl = new()
    stream = repl.session.stream

    def spy(prompt: Any, params: SamplingParams, show: Any) -> Any:
        assert show is None, "nobody watches"
        seen.append([m["content"] for m in prompt])
        return stream(prompt, params)

    repl.session.stream = spy  # type: ignore[method-assign]
    repl.conversation.system = "Be brief."
    repl.handle("one")
    repl.handle("two")
    assert seen == [["Be brief.", "one"], ["Be brief.", "one", "You said: one", "two"]]


def test_ctrl_c_stops_the_answer_and_keeps_what_was_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    repl = new(["Once", " upon", KeyboardInterrupt()])
    repl.handle("a story")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("Once upon\n", "(stopped)\n")
    assert said(repl)[-1] == ("assistant", "Once upon")
    assert not repl.is_over


def test_a_question_that_is_too_long_is_forgotten() -> None:
    repl = new()
    with pytest.raises(UserError, match="999 tokens"):
        repl.handle("x" * 200)
    assert said(repl) == []


def test_stats_are_for_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    new(stats=True).handle("hello")
    captured = capsys.readouterr()
    assert captured.out == "You said: hello\n"
    assert "tok/s" in captured.err


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("/nonsense", "there is no /nonsense"),
        ("/__init__", "there is no /__init__"),
        ("/", "there is no /"),
        ("/set temperature", "needs a value"),
        ("/set colour red", "'colour' is no setting"),
        ("/set watch maybe", "watch is on or off"),
        ("/set watch on", "writes from left to right"),
        ("/save", "/save needs a name"),
        ("/load", "/load needs a name"),
        ("/load never-saved", "no saved conversation"),
    ],
)
def test_a_bad_command_is_refused(line: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        new().handle(line)


def test_commands(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    repl = new()
    repl.handle("/set temperature 0.25")
    assert repl.conversation.params.temperature == 0.25
    repl.handle("/system Be brief.")
    repl.handle("hello")
    repl.handle("/save monday")
    repl.handle("/clear")
    repl.handle("/system")
    assert (said(repl), repl.conversation.system) == ([], "")
    repl.handle("/load monday")
    assert said(repl) == [("user", "hello"), ("assistant", "You said: hello")]
    assert repl.conversation.system == "Be brief."
    capsys.readouterr()
    for line in ("/set", "/show", "/?"):
        repl.handle(line)
    captured = capsys.readouterr()
    assert captured.out == ""
    for expected in ("temperature 0.25", "context 128 tokens", "2 messages", "/save NAME"):
        assert expected in captured.err
    repl.handle("/bye")
    assert repl.is_over


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_what_may_still_change_is_shown_below_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    repl = new()
    repl.session.name = "masked"
    with pytest.raises(UserError, match="no terminal"):
        repl.handle("/set watch on")
    out = Terminal()
    monkeypatch.setattr("sys.stdout", out)
    repl.handle("/set watch on")
    repl.handle("hello")
    assert out.getvalue().count("\u2591maybe\u2591") == 3
    assert seen_on_screen(out.getvalue()) == ["You said: hello"]
    assert said(repl)[-1] == ("assistant", "You said: hello")
    repl.handle("/set watch off")
    repl.handle("again")
    assert out.getvalue().count("maybe") == 3


def test_ctrl_c_takes_away_what_may_still_change(monkeypatch: pytest.MonkeyPatch) -> None:
    repl = new(["Once", KeyboardInterrupt()])
    out = Terminal()
    monkeypatch.setattr("sys.stdout", out)
    repl.is_watching = True
    repl.handle("a story")
    assert seen_on_screen(out.getvalue()) == ["Once"]


def seen_on_screen(text: str, lines: int = 4) -> list[str]:
    """Rows of a small terminal that was sent a text, down to the last that is not empty."""
    screen, row, column, saved = [""] * lines, 0, 0, (0, 0)
    for one in re.findall(r"\x1b\[\d*[A-Za-z]|\x1b.|.|\n", text):
        if one in ("\x1bD", "\n"):
            column = 0 if one == "\n" else column
            if row == lines - 1:
                screen = [*screen[1:], ""]
            else:
                row += 1
        elif one == "\x1b7":
            saved = row, column
        elif one == "\x1b8":
            row, column = saved
        elif one == "\r":
            column = 0
        elif one == "\x1b[J":
            screen[row:] = [screen[row][:column], *[""] * (lines - row - 1)]
        elif one.endswith("A") and one.startswith("\x1b["):
            row -= int(one[2:-1])
        elif not one.startswith("\x1b"):
            screen[row] = screen[row].ljust(column)[:column] + one + screen[row][column + 1 :]
            column += 1
    return "\n".join(screen).rstrip("\n").split("\n")


def test_at_the_end_of_the_screen_the_rows_below_push_the_answer_up() -> None:
    out = Terminal()
    sketch = Sketch(out)
    out.write("1\n2\n3\n4")
    for _ in range(3):
        sketch.show(["a" * 200, None])
    drawn = seen_on_screen(out.getvalue())
    assert drawn[0].startswith("4")
    sketch.clear()
    out.write("5")
    assert seen_on_screen(out.getvalue()) == ["45"]


def test_rows_are_as_wide_as_the_terminal_and_hold_nothing_it_obeys() -> None:
    assert rows(["ab\x1b[2Jc", None, "d\ne"], 4, 9) == ["ab[2", "Jc\u2591d", "\u21b5e"]
    assert rows(["\u4e2d\u6587\u5b57"], 5, 9) == ["\u4e2d\u6587", "\u5b57"]
    assert rows([None] * 100, 10, 3) == ["\u2591" * 10] * 3
    assert rows([], 10, 3) == []


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("one\ntwo\n", ["one", "two"]),
        ("last line", ["last line"]),
        ('"""a\nb"""\nc\n', ["a\nb", "c"]),
        ('"""\na\n\nb\n"""\n', ["\na\n\nb\n"]),
        ('"""one"""\n', ["one"]),
        ('"""never ended\n', ["never ended"]),
        ("", []),
    ],
)
def test_messages_of_one_line_or_several(typed: Any, text: str, messages: list[str]) -> None:
    typed(text)
    found = []
    while (message := read_message()) is not None:
        found.append(message)
    assert found == messages


def test_the_loop_ends_with_the_input_and_survives_mistakes(
    typed: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    typed("hello\n/nonsense\n\nbye now\n")
    new().loop()
    captured = capsys.readouterr()
    assert captured.out == "You said: hello\nYou said: bye now\n"
    assert "there is no /nonsense" in captured.err


def test_bye_ends_the_loop(typed: Any, capsys: pytest.CaptureFixture[str]) -> None:
    typed("/bye\nhello\n")
    new().loop()
    assert capsys.readouterr().out == ""


def test_ctrl_c_at_the_prompt_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines: list[Any] = [KeyboardInterrupt(), "hello", None]

    def read() -> Any:
        line = lines.pop(0)
        if isinstance(line, BaseException):
            raise line
        return line

    monkeypatch.setattr("plait.cli.repl.read_message", read)
    new().loop()
    assert capsys.readouterr().out == "You said: hello\n"


def test_the_command_talks_through_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "Session", FakeSession)
    result = CliRunner().invoke(app, ["chat", "some-model", "-s", "Be brief."], input="hi\n")
    assert (result.exit_code, result.stdout) == (0, "You said: hi\n")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [(["base"], "has no chat template"), (["m", "--samples", "2"], "one answer at a time")],
)
def test_what_cannot_be_a_conversation_is_refused(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], complaint: str
) -> None:
    monkeypatch.setattr(command, "Session", FakeSession)
    result = CliRunner().invoke(app, ["chat", *arguments], input="hi\n")
    assert result.exit_code == 2
    assert complaint in result.stderr
