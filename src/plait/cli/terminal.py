"""What goes to stdout (the answer, nothing else) and what goes to stderr (everything else)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from plait.core.errors import UserError

if TYPE_CHECKING:
    from rich.progress import Progress

MAX_STDIN_BYTES = 64 << 20
"""More than any context holds; a pipe without an end must not fill the memory."""

# What a terminal would obey rather than show: C0 without tab and newline, DEL, C1.
_CONTROLS = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160)])


class Answer:
    """Writes an answer to a stream piece by piece, each one visible at once.

    On a terminal control characters are dropped: a model must not be able to send escape sequences. A
    pipe gets the text as it is. A character that the stream's encoding lacks becomes "?".
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._is_terminal = self._stream.isatty()
        self._at_line_start = True

    def write(self, text: str) -> None:
        """Show a piece. Raises BrokenPipeError when the reader is gone."""
        if self._is_terminal:
            text = shown(text)
        if not text:
            return
        encoding = self._stream.encoding or "utf-8"
        self._stream.write(text.encode(encoding, "replace").decode(encoding))
        self._stream.flush()
        self._at_line_start = text.endswith("\n")

    def close(self) -> None:
        """End the last line, if it is not ended yet."""
        if not self._at_line_start:
            self.write("\n")


def shown(text: str) -> str:
    """A text without what a terminal would obey rather than show."""
    return text.translate(_CONTROLS)


def note(text: str) -> None:
    """A remark to the user, dim on a terminal, on stderr."""
    dim, plain = ("\x1b[2m", "\x1b[0m") if sys.stderr.isatty() else ("", "")
    print(f"{dim}{text}{plain}", file=sys.stderr, flush=True)


def complain(message: str) -> None:
    """An error message; the first line names the program."""
    print(f"plait: {message}", file=sys.stderr, flush=True)


def is_interactive() -> bool:
    """Whether somebody types into stdin. It may also be a pipe, or closed."""
    return sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()


def piped_text() -> str | None:
    """What was piped into stdin; None when stdin is a terminal or closed."""
    if sys.stdin is None or sys.stdin.closed or is_interactive():
        return None
    data = sys.stdin.buffer.read(MAX_STDIN_BYTES + 1)
    if len(data) > MAX_STDIN_BYTES:
        raise UserError(
            f"stdin holds more than {MAX_STDIN_BYTES:,} bytes", "pipe in the part that matters"
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"stdin is not UTF-8 text (byte {error.start} is {data[error.start]:#04x})"
        ) from None


@contextmanager
def download_bar(title: str) -> Iterator[Callable[[int, int, str], None]]:
    """Progress on stderr; the value is a callback (bytes done, bytes in total, label).

    Nothing is shown before the first call. A terminal gets a bar, a log file one line.
    """
    bar: Progress | None = None

    def report(done: int, total: int, label: str) -> None:
        nonlocal bar
        if bar is None:
            bar = _bar(title)
            bar.start() if sys.stderr.isatty() else note(f"downloading {title}: {total:,} bytes")
        bar.update(bar.task_ids[0], completed=done, total=total or None, label=label)

    try:
        yield report
    finally:
        if bar is not None and bar.live.is_started:
            bar.stop()


def _bar(title: str) -> Progress:
    # Loaded for a download only: it takes a tenth of a second.
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    bar = Progress(
        TextColumn("{task.description}"),
        *(BarColumn(), DownloadColumn(), TransferSpeedColumn(), TextColumn("{task.fields[label]}")),
        console=Console(stderr=True),
    )
    bar.add_task(title, total=None, label="")
    return bar
