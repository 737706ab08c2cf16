"""Finds the tokens that are written out literally in a text, such as <|im_start|>."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any


class Literals:
    """Cuts a text at literal tokens: leftmost first, and at one place the longest.

    ids: text of a token (not empty) -> its id.
    """

    def __init__(self, ids: Mapping[str, int]) -> None:
        self._ids = ids
        self._trie: dict[str, Any] = {}
        for text in ids:
            node = self._trie
            for letter in text:
                node = node.setdefault(letter, {})
            node[""] = text
        self._start = _starts(ids)

    def split(self, text: str) -> Iterator[str | int]:
        """The text in order: token ids, and the stretches between them (never empty)."""
        done = 0
        for start, found in self._matches(text):
            if start > done:
                yield text[done:start]
            yield self._ids[found]
            done = start + len(found)
        if done < len(text):
            yield text[done:]

    def starts(self, text: str) -> Iterator[int]:
        """Every place where a token starts, within another one too."""
        if self._start is None:
            return
        place = 0
        while candidate := self._start.search(text, place):
            if self._longest(text, candidate.start()):
                yield candidate.start()
            place = candidate.start() + 1

    def _matches(self, text: str) -> Iterator[tuple[int, str]]:
        if self._start is None:
            return
        place = 0
        while candidate := self._start.search(text, place):
            place = candidate.start()
            found = self._longest(text, place)
            if found:
                yield place, found
            place += len(found) or 1

    def _longest(self, text: str, place: int) -> str:
        node, found = self._trie, ""
        while True:
            found = str(node.get("", found))
            node = node.get(text[place : place + 1] or "end", {})
            if not node:
                return found
            place += 1


def _starts(ids: Mapping[str, int]) -> re.Pattern[str] | None:
    """Matches where a token may start: its first two letters, so that few places are looked at."""
    seconds: defaultdict[str, set[str]] = defaultdict(set)
    for text in ids:
        seconds[text[0]].add(text[1:2])
    if not seconds:
        return None
    choices = []
    for first, following in sorted(seconds.items()):
        letters = "".join(map(re.escape, sorted(following)))
        choices.append(re.escape(first) + ("" if "" in following else f"[{letters}]"))
    return re.compile("|".join(choices))
