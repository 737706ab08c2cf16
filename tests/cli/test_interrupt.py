"""Ctrl-C at a real terminal: the answer stops, the terminal is as it was. And readers that go away."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

PROGRAM = """
import logging, sys, time
import plait.cli.chat, plait.cli.run
from plait.cli.main import app
from plait.core.errors import UserError
from tests.cli.fakes import FakeSession

class Slow(FakeSession):
    def stream(self, prompt, params, show=None):
        if params.max_tokens == 1:
            logging.getLogger("plait.engine.engine").error("request 0 failed")
            raise UserError("the answer broke off")
        for number in range(2000):
            yield f"word{number} "
            time.sleep(0.01)

plait.cli.chat.Session = plait.cli.run.Session = Slow
app(args=sys.argv[1:])
"""


def become_foreground(terminal: int) -> None:
    """In the child: own the terminal, and listen to Ctrl-C even if the tests run in the background."""
    os.login_tty(os.dup(terminal))
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Screen:
    """A program on a pseudo-terminal."""

    def __init__(self, *arguments: str) -> None:
        self.master, slave = os.openpty()
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.text = ""
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments],
            preexec_fn=lambda: become_foreground(slave),
            env=environment,
        )

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def wait_for(self, text: str) -> None:
        """Read until a text appears (after what was waited for before)."""
        deadline = time.monotonic() + 30
        while text not in self.text:
            ready, _, _ = select.select([self.master], [], [], 1)
            if ready:
                self.text += os.read(self.master, 65536).decode()
            assert time.monotonic() < deadline, f"no {text!r} in {self.text!r}"
        self.text = self.text.split(text, 1)[1]

    def interrupt_until(self, text: str) -> None:
        """Ctrl-C, again and again: Python's readline misses one that comes just before it waits."""
        for _ in range(20):
            self.type("\x03")
            ready, _, _ = select.select([self.master], [], [], 1)
            if ready:
                return self.wait_for(text)
        raise AssertionError("twenty interrupts and no word")

    def settings(self) -> list[object]:
        return termios.tcgetattr(self.slave)

    def end(self) -> int:
        return self.process.wait(timeout=30)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.slave)
        os.close(self.master)


@pytest.fixture
def screen(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Screen]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    made = Screen(*request.param)
    yield made
    made.close()


@pytest.mark.parametrize("screen", [["chat", "some-model"]], indirect=True)
def test_ctrl_c_stops_the_answer_and_not_the_chat(screen: Screen) -> None:
    screen.wait_for(">>> ")
    screen.type("talk\n")
    screen.wait_for("word3 ")
    screen.type("\x03")
    screen.wait_for("(stopped)")
    screen.wait_for(">>> ")
    screen.type("more\n")
    screen.wait_for("word3 ")
    screen.type("\x03")
    screen.wait_for(">>> ")
    screen.interrupt_until("/bye")
    screen.wait_for(">>> ")  # before that the terminal is not readline's, and would keep the key
    screen.type("\x04")
    assert screen.end() == 0
    assert screen.settings() == screen.before


@pytest.mark.parametrize("screen", [["run", "some-model", "talk"]], indirect=True)
def test_ctrl_c_ends_a_run_with_130(screen: Screen) -> None:
    screen.wait_for("word3 ")
    screen.type("\x03")
    assert screen.end() == 130
    assert screen.settings() == screen.before


def start(*arguments: str, stdout: Any) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env=environment,
    )


def test_a_reader_that_goes_away_is_no_error() -> None:
    process = start("run", "some-model", "talk", stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.read(5) == b"word0"
    process.stdout.close()
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (141, b"")


def test_a_full_disk_is_one_line() -> None:
    with open("/dev/full", "wb") as full:
        process = start("run", "some-model", "talk", stdout=full)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (1, b"plait: No space left on device\n")


@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_the_log_of_a_failure_is_for_debugging_only(debug: list[str]) -> None:
    process = start("run", "some-model", "talk", "-n", "1", *debug, stdout=subprocess.DEVNULL)
    _, errors = process.communicate(timeout=30)
    assert b"the answer broke off" in errors
    assert (b"request 0 failed" in errors) == bool(debug)


def plait(*arguments: str, redirect: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The real command, its streams redirected by a shell."""
    line = f'exec "$0" -m plait "$@" {redirect}'
    return subprocess.run(
        ["sh", "-c", line, sys.executable, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | variables,
        check=False,
    )


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["papers"]])
def test_a_full_disk_is_one_line_for_the_help_too(arguments: list[str]) -> None:
    done = plait(*arguments, redirect=">/dev/full")
    assert (done.returncode, done.stderr) == (1, "plait: No space left on device\n")


def test_a_closed_stdout_is_one_line() -> None:
    done = plait("papers", redirect=">&-")
    assert (done.returncode, done.stderr) == (1, "plait: stdout is closed\n")


def test_what_belongs_to_a_closed_stderr_does_not_go_to_stdout() -> None:
    done = plait("run", "no-such/model.gguf", "hi", redirect="2>&-")
    assert (done.returncode, done.stdout) == (2, "")


def test_a_stdout_without_the_letters_is_no_error() -> None:
    done = plait("papers", "--json", redirect="", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert len(json.loads(done.stdout)) == 87
    assert plait("papers", redirect="", PYTHONIOENCODING="ascii").returncode == 0
