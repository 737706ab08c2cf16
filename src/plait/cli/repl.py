"""The loop behind `plait chat`: lines in, answers out, and what a slash does."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from plait.cli.conversation import Conversation
from plait.cli.session import Session
from plait.cli.sketch import Sketch
from plait.cli.stats import drafting, footer
from plait.cli.terminal import Answer, complain, is_interactive, note
from plait.core.errors import UserError

QUOTES = '"""'


class Repl:
    """One conversation with one model. `do_x` is what `/x` does; its docstring is its help."""

    def __init__(self, session: Session, conversation: Conversation, *, stats: bool) -> None:
        self.session = session
        self.conversation = conversation
        self.stats = stats
        self.is_watching = False
        self.is_over = False

    def loop(self) -> None:
        """Answer until the input ends or /bye."""
        while not self.is_over:
            try:
                text = read_message()
            except KeyboardInterrupt:
                note("\nCtrl-D or /bye ends the conversation")
                continue
            if text is None:
                return
            try:
                self.handle(text.strip())
            except UserError as error:
                complain(str(error))

    def handle(self, text: str) -> None:
        """One message or one command. Raises UserError for what cannot be done."""
        if text.startswith("/"):
            name, _, rest = text[1:].partition(" ")
            self._command(name, rest.strip())
        elif text:
            self._answer(text)

    def _answer(self, text: str) -> None:
        self.conversation.say("user", text)
        answer, pieces = Answer(), list[str]()
        try:
            self._follow(answer, pieces)
        except KeyboardInterrupt:
            answer.close()
            note("(stopped)")
        except UserError:
            self.conversation.take_back()
            raise
        answer.close()
        # What was said stays said: the model may be asked to go on from an answer that was stopped.
        self.conversation.say("assistant", "".join(pieces))
        if self.stats and self.session.output is not None:
            note(footer(self.session.output))
            for line in drafting(self.session.output):
                note(line)

    def _follow(self, answer: Answer, pieces: list[str]) -> None:
        """Show an answer as it comes, and add to the pieces."""
        sketch = Sketch()
        asked = self.conversation.prompt(), self.conversation.params
        try:
            for piece in self.session.stream(*asked, sketch.show if self.is_watching else None):
                pieces.append(piece)
                sketch.clear()
                answer.write(piece)
        finally:
            sketch.clear()

    def _command(self, name: str, rest: str) -> None:
        name = {"?": "help", "exit": "bye", "quit": "bye"}.get(name, name)
        command = getattr(self, f"do_{name}", None) if name.isidentifier() else None
        if command is None:
            raise UserError(f"there is no /{name}", "/? lists the commands")
        command(rest)

    def do_set(self, rest: str) -> None:
        """/set [NAME VALUE]: change a sampling parameter (or watch on|off: a canvas at work), or show them all."""
        name, _, value = rest.partition(" ")
        if not name:
            shown = asdict(self.conversation.params) | {"watch": on_or_off(self.is_watching)}
            for key, current in shown.items():
                note(f"{key} {current}")
        elif not value:
            raise UserError(f"/set {name} needs a value", f"for example: /set {name} 1")
        elif name == "watch":
            self._watch(value.strip())
        else:
            self.conversation.set(name, value.strip())

    def _watch(self, value: str) -> None:
        if value not in ("on", "off"):
            raise UserError(f"watch is on or off, not {value!r}")
        if value == "on" and not self.session.has_canvas:
            raise UserError(
                f"{self.session.name} writes from left to right: nothing of it changes again",
                "a diffusion model can be watched",
            )
        if value == "on" and not sys.stdout.isatty():
            raise UserError("there is no terminal to watch it on", "leave stdout as it is")
        self.is_watching = value == "on"

    def do_show(self, _: str) -> None:
        """/show: the model, the system message and how much has been said."""
        note(f"model {self.session.name}, context {self.session.context_length:,} tokens")
        for line in self.session.words:
            note(line)
        note(f"system {self.conversation.system or '(none)'}")
        note(f"{len(self.conversation.messages)} messages")

    def do_system(self, rest: str) -> None:
        """/system [TEXT]: set the system message; without a text, remove it."""
        self.conversation.system = rest

    def do_clear(self, _: str) -> None:
        """/clear: forget what was said."""
        self.conversation.messages.clear()

    def do_save(self, rest: str) -> None:
        """/save NAME: keep the conversation under a name, or in a file when it is a path."""
        note(f"saved to {self.conversation.save(_needed('save', rest))}")

    def do_load(self, rest: str) -> None:
        """/load NAME: go on with a conversation that was saved."""
        note(f"loaded {self.conversation.load(_needed('load', rest))}")

    def do_bye(self, _: str) -> None:
        """/bye: leave (so does Ctrl-D)."""
        self.is_over = True

    def do_help(self, _: str) -> None:
        """/?: this list. A message between lines of three quotes may have several lines."""
        for name in sorted(dir(self)):
            if name.startswith("do_"):
                note((getattr(self, name).__doc__ or "").rstrip("."))


def on_or_off(value: bool) -> str:
    return "on" if value else "off"


def _needed(command: str, rest: str) -> str:
    if not rest:
        raise UserError(f"/{command} needs a name", f"for example: /{command} monday")
    return rest


def read_message() -> str | None:
    """The next line, or the lines between three quotes as one; None at the end of the input."""
    line = _read_line(">>> ")
    if line is None or not line.startswith(QUOTES):
        return line
    lines = [line.removeprefix(QUOTES)]
    while not lines[-1].rstrip().endswith(QUOTES):
        more = _read_line("... ")
        if more is None:
            return "\n".join(lines)
        lines.append(more)
    return "\n".join([*lines[:-1], lines[-1].rstrip().removesuffix(QUOTES)])


def _read_line(prompt: str) -> str | None:
    # input() edits with readline only when both ends are a terminal; otherwise it would write its
    # prompt to stdout, which belongs to the answer.
    if is_interactive() and sys.stdout.isatty():
        with contextlib.suppress(EOFError):
            return input(prompt)
        note("")
        return None
    if is_interactive():
        print(prompt, end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline() if sys.stdin is not None else ""
    return line.rstrip("\n") if line else None


@contextlib.contextmanager
def history() -> Iterator[None]:
    """Line editing with the history of earlier sessions, where the terminal has it."""
    if not is_interactive():
        yield
        return
    import readline

    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    path = Path(state) / "plait" / "history"
    with contextlib.suppress(OSError):
        readline.read_history_file(path)
    try:
        yield
    finally:
        readline.set_history_length(1000)
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            readline.write_history_file(path)
