"""Prompts that say less, for the second stream of a decoder that contrasts (the "lame prompt" of USCD)."""

from __future__ import annotations

import re

EXAMPLE = re.compile(r"^[^\S\n]*>>>.*$")
MORE = re.compile(r"^[^\S\n]*\.\.\.(\s.*)?$")
END = re.compile(r"^\s*$|^\s*(\"\"\"|''')|^[^\S\n]*>>>")
QUOTES = re.compile(r"\"\"\"|'''")


def without_examples(text: str) -> str:
    """The text without its examples of inputs and outputs: lines that begin with >>>, those that go on from them (...)
    and the output below, up to an empty line or the end of the documentation string."""
    kept: list[str] = []
    is_output = False
    for line in text.split("\n"):
        if EXAMPLE.match(line):
            is_output = True
        elif is_output and not END.match(line) and not MORE.match(line):
            if quotes := QUOTES.search(line):  # output, and the end of the string on the same line
                is_output = False
                kept.append(line[quotes.start() :])
        elif not (is_output and MORE.match(line)):
            is_output = False
            kept.append(line)
    return "\n".join(kept)
