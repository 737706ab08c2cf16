"""Numbers that end: digits that mean nothing any more may not come.

To JSON a number may have as many digits as anybody likes, and small models write zeros behind the point until they
are cut. What reads the answer keeps 17 digits of them at most. So where a number outside of strings has become long,
no token may come that goes on with it. If nothing else can come, it may not go on with a zero, behind which it could
not end (a schema may want it to be more than 0); and if nothing but that can, it goes on (a schema may name a number of
sixty digits).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np

from plait.core.window import Masks
from plait.grammar import base
from plait.grammar.base import Lexicon, Words

MOST_CHARACTERS: Final = 40
"""Of a number before it has to end: a double takes 24, a 128-bit integer 39 and its sign."""
_LETTERS: Final = b"0123456789+-.eE"
_QUOTE, _BACKSLASH = b'"\\'


class Digits:
    """The tokens of a vocabulary that a number can go on with. Made of a lexicon when it is first asked."""

    def __init__(self, lexicon: Callable[[], Lexicon], num_words: int) -> None:
        """num_words: of a mask, uint32."""
        self._lexicon = lexicon
        self._num_words = num_words
        self._vocabulary: list[bytes] | None = None
        self._narrower: list[Words] = []

    def blank(self) -> Words:
        """A mask to fill."""
        return np.zeros(self._num_words, np.uint32)

    def spelled(self, token: int) -> bytes:
        """What a token adds to the text."""
        if self._vocabulary is None:
            self._vocabulary = self._read()
        return self._vocabulary[token] if token < len(self._vocabulary) else b""

    def narrow(self, mask: Words) -> None:
        """Leave out what goes on with a number, or what goes on with a zero, where something else is left."""
        self.spelled(0)
        for others in self._narrower:
            narrowed = mask & others[: len(mask)]
            if narrowed.any():
                mask[:] = narrowed
                return

    def _read(self) -> list[bytes]:
        spellings = self._lexicon().vocabulary()
        firsts = np.zeros(32 * self._num_words, np.uint8)
        for token, spelled in enumerate(spellings[: len(firsts)]):
            firsts[token] = spelled[0] if spelled else 0
        self._narrower = [
            np.packbits(~np.isin(firsts, list(barred)), bitorder="little").view(np.uint32)
            for barred in (_LETTERS, _LETTERS.translate(None, b"123456789"))
        ]
        return spellings


class Standing(NamedTuple):
    """Where a text stands: whether in a string, there behind a backslash, and the characters of the number it is in."""

    in_string: bool = False
    is_escaped: bool = False
    length: int = 0

    def after(self, spelled: bytes) -> Standing:
        """Behind some more of the text."""
        if self.in_string and b'"' not in spelled and b"\\" not in spelled:
            return _IN_STRING
        in_string, is_escaped, length = self
        for letter in spelled:
            if is_escaped:
                is_escaped = False
            elif letter == _QUOTE:
                in_string, length = not in_string, 0
            elif in_string:
                is_escaped = letter == _BACKSLASH
            else:
                length = length + 1 if letter in _LETTERS else 0
        return Standing(in_string, is_escaped, length)


_IN_STRING = Standing(in_string=True)


class State(base.Around):
    """A state of a grammar of JSON that lets no number become long."""

    def __init__(
        self, inner: base.State, digits: Digits, places: list[Standing] | None = None
    ) -> None:
        """places: where the text stood before each token, and where it stands."""
        super().__init__(inner)
        self._digits = digits
        self._places = places or [Standing()]

    @property
    def _is_long(self) -> bool:
        return self._places[-1].length >= MOST_CHARACTERS

    def current(self, num_words: int) -> Masks:
        masks = self._inner.current(num_words)
        if self._is_long:
            self._digits.narrow(masks[0])
        return masks

    def fill(self, mask: Words) -> None:
        super().fill(mask)
        if self._is_long:
            self._digits.narrow(mask)

    def advance(self, token: int) -> bool:
        if self._is_long and not self._may_come(token):
            return False
        if not self._inner.advance(token):
            return False
        self._places.append(self._places[-1].after(self._digits.spelled(token)))
        return True

    def rollback(self, count: int) -> None:
        super().rollback(count)
        del self._places[len(self._places) - count :]

    def fork(self) -> State:
        return State(self._inner.fork(), self._digits, list(self._places))

    def _may_come(self, token: int) -> bool:
        mask = self._digits.blank()
        self.fill(mask)
        return bool(mask[token // 32] >> np.uint32(token % 32) & np.uint32(1))
