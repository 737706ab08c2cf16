"""From the text of an answer to what is compared with other answers."""

from __future__ import annotations

import re
from collections.abc import Callable

Extract = Callable[[str], str | None]
"""What an answer comes to, None if it comes to nothing."""

_NUMBER = re.compile(r"(?<![\w.])-?(?:\d[\d,]*(?:\.\d+)?|\.\d+)")
"""A hyphen behind a letter or digit is no sign."""
_BOX = "\\boxed{"


def whole(text: str) -> str | None:
    """All of it, without the space around."""
    return text.strip() or None


def line(text: str) -> str | None:
    """Its last line that is not empty."""
    return whole(text.strip().rpartition("\n")[2])


def number(text: str) -> str | None:
    """Its last number, spelled in one way: "1,200.50" is "1200.5", ".5" is "0.5", "007" is "7"."""
    found = _NUMBER.findall(text)
    if not found:
        return None
    digits = found[-1].replace(",", "")
    sign, digits = "-" * digits.startswith("-"), digits.removeprefix("-")
    whole_part, _, decimals = digits.partition(".")
    value = (whole_part.lstrip("0") or "0") + f".{decimals.rstrip('0')}".rstrip(".")
    return value if value == "0" else sign + value


def boxed(text: str) -> str | None:
    r"""What stands in its last \boxed{...}, braces inside included."""
    start = text.rfind(_BOX)
    if start < 0:
        return None
    inside, depth = text[start + len(_BOX) :], 1
    for place, letter in enumerate(inside):
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if depth == 0:
            return whole(inside[:place])
    return None


EXTRACTS: dict[str, Extract] = {"whole": whole, "line": line, "number": number, "boxed": boxed}
"""By the name that the command line knows."""
