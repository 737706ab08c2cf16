"""What of an answer may still change, shown on a terminal below what is final."""

from __future__ import annotations

import shutil
import sys
import unicodedata
from collections.abc import Sequence
from typing import TextIO

from plait.cli.terminal import shown

OPEN = "\u2591"
MOST_ROWS = 8
_INDEX, _SAVE, _RESTORE = "\x1bD", "\x1b7", "\x1b8"
_DIM, _PLAIN, _ERASE_BELOW = "\x1b[2m", "\x1b[0m", "\x1b[J"


class Sketch:
    """Some dim rows below the cursor, which stays where the answer goes on."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._is_shown = False

    def show(self, pieces: Sequence[str | None]) -> None:
        """Draw pieces (text, None for an open position), in place of those before; as many as there is room for."""
        self.clear()
        size = shutil.get_terminal_size()
        most = max(1, min(MOST_ROWS, size.lines - 2))
        drawn = rows(pieces, max(1, size.columns - 1), most)
        if not drawn:
            return
        # Rows are made first, one by one, as the screen may have to move up; the column stays the same meanwhile.
        room = _INDEX * len(drawn) + f"\x1b[{len(drawn)}A"
        lines = "".join(f"\r\n{row}" for row in drawn)
        self._write(f"{room}{_SAVE}{_DIM}{lines}{_PLAIN}{_RESTORE}")
        self._is_shown = True

    def clear(self) -> None:
        """Take it away."""
        if self._is_shown:
            self._write(_ERASE_BELOW)
        self._is_shown = False

    def _write(self, text: str) -> None:
        encoding = self._stream.encoding or "utf-8"
        self._stream.write(text.encode(encoding, "replace").decode(encoding))
        self._stream.flush()


def rows(pieces: Sequence[str | None], columns: int, most: int) -> list[str]:
    """The pieces as rows that are not wider than `columns`; what goes beyond `most` of them is left out.

    A line end is shown as a sign, and nothing that a terminal would obey is let through.
    """
    found, width = [""], 0
    text = "".join(OPEN if piece is None else shown(piece) for piece in pieces)
    for letter in text.replace("\n", "\u21b5").replace("\t", " "):
        step = _width(letter)
        if width + step > columns:
            if len(found) == most:
                break
            found.append("")
            width = 0
        found[-1] += letter
        width += step
    return found if text else []


def _width(letter: str) -> int:
    """Columns that it takes."""
    if unicodedata.combining(letter):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1
