"""stdout belongs to the answer; a model cannot drive the terminal."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from plait.cli import terminal
from plait.cli.terminal import Answer, download_bar, note, piped_text
from plait.core.errors import UserError


class Terminal(io.StringIO):
    """A text stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


class Pipe(io.TextIOWrapper):
    """A stream of bytes in some encoding that records when it is flushed."""

    def __init__(self, encoding: str) -> None:
        self.bytes = io.BytesIO()
        super().__init__(self.bytes, encoding=encoding, write_through=False)


def stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))


def test_every_piece_is_out_before_the_next() -> None:
    pipe = Pipe("utf-8")
    answer = Answer(pipe)
    answer.write("Hel")
    assert pipe.bytes.getvalue() == b"Hel"
    answer.write("lo")
    assert pipe.bytes.getvalue() == b"Hello"


@pytest.mark.parametrize(
    ("text", "shown"), [("a", "a\n"), ("a\n", "a\n"), ("", ""), ("a\n\n", "a\n\n")]
)
def test_the_last_line_is_ended_once(text: str, shown: str) -> None:
    stream = io.StringIO()
    answer = Answer(stream)
    answer.write(text)
    answer.close()
    assert stream.getvalue() == shown


def test_escape_sequences_do_not_reach_a_terminal() -> None:
    screen, pipe = Terminal(), io.StringIO()
    hostile = "a\x1b]0;title\x07\x9b31m\x08\x7f\r\tb\n"
    Answer(screen).write(hostile)
    Answer(pipe).write(hostile)
    assert screen.getvalue() == "a]0;title31m\tb\n"
    assert pipe.getvalue() == hostile


def test_a_character_the_stream_lacks_does_not_end_the_answer() -> None:
    pipe = Pipe("ascii")
    Answer(pipe).write("π = 3")
    assert pipe.bytes.getvalue() == b"? = 3"


def test_notes_go_to_stderr_without_colour_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    note("by the way")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "by the way\n")


def test_stdin_is_read_as_utf8_whatever_the_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, "Grüße".encode())
    assert piped_text() == "Grüße"


def test_stdin_that_is_no_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, b"abc\xff")
    with pytest.raises(UserError, match="byte 3 is 0xff"):
        piped_text()


def test_stdin_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "MAX_STDIN_BYTES", 10)
    stdin(monkeypatch, b"x" * 10)
    assert piped_text() == "x" * 10
    stdin(monkeypatch, b"x" * 11)
    with pytest.raises(UserError, match="more than 10 bytes"):
        piped_text()


def test_a_terminal_or_no_stdin_is_no_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal())
    assert piped_text() is None
    assert terminal.is_interactive()
    monkeypatch.setattr(sys, "stdin", None)
    assert piped_text() is None
    assert not terminal.is_interactive()


def test_a_download_is_one_line_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    with download_bar("tiny") as report:
        for done in (0, 5, 10):
            report(done, 10, "part 1")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "downloading tiny: 10 bytes\n")


def test_no_download_no_output(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with download_bar("tiny"):
        pass
    assert capsys.readouterr() == ("", "")
