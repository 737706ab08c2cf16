"""An answer in the middle of a text: where it may end, anything else may follow, and that ends it.

A number in a sentence ends where the model goes on with a full stop; of a model that is held to digits, or to its own
end, nobody knows what it would have said. So wherever the answer may end, the mask also lets through all tokens that
go on with something else. The first of them ends the answer and is no part of it. A token that begins as the answer
could, and then leaves it, may not come: the model can say the part and what follows in two.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from plait.grammar import base
from plait.grammar.base import Lexicon, Words

_NO_BYTE = 256


class Endings:
    """The tokens of a vocabulary by what they begin with. Made of a lexicon when it is first asked."""

    def __init__(self, lexicon: Callable[[], Lexicon], num_words: int) -> None:
        """num_words: of a mask, uint32."""
        self._lexicon = lexicon
        self._num_words = num_words
        self._firsts: NDArray[np.uint16] | None = None

    def blank(self) -> Words:
        """A mask to fill."""
        return np.zeros(self._num_words, np.uint32)

    def after(self, mask: Words) -> Words:
        """All tokens of text that begin otherwise than every one of the mask, uint32 [words]."""
        firsts = self._firsts = self._read() if self._firsts is None else self._firsts
        is_taken = np.zeros(_NO_BYTE + 1, np.bool_)
        is_taken[firsts[base.bits(mask)]] = is_taken[_NO_BYTE] = True
        packed = np.packbits(~is_taken[firsts], bitorder="little")
        return packed.view(np.uint32)

    def _read(self) -> NDArray[np.uint16]:
        """First byte of each token, uint16 [32 * words]; 256 for what is no text."""
        lexicon = self._lexicon()
        firsts = np.full(32 * self._num_words, _NO_BYTE, np.uint16)
        for token, spelled in enumerate(lexicon.vocabulary()[: len(firsts)]):
            if spelled and token not in lexicon.special_ids:
                firsts[token] = spelled[0]
        return firsts


class State(base.Around):
    """A state of a grammar, and whether something else has followed."""

    def __init__(self, inner: base.State, endings: Endings, *, is_closed: bool = False) -> None:
        super().__init__(inner)
        self._endings = endings
        self.is_closed = is_closed

    @property
    def num_tokens(self) -> int:  # type: ignore[override]
        return super().num_tokens + self.is_closed

    @property
    def is_accepting(self) -> bool:
        return self.is_closed or super().is_accepting

    @property
    def is_finished(self) -> bool:
        return self.is_closed or super().is_finished

    def fill(self, mask: Words) -> None:
        super().fill(mask)
        if self._inner.is_accepting:
            mask |= self._endings.after(mask)

    def forced(self) -> int | None:
        return None if self.is_accepting else super().forced()

    def advance(self, token: int) -> bool:
        if self.is_closed:
            return False
        if self._inner.advance(token):
            return True
        self.is_closed = self._inner.is_accepting and self._ends(token)
        return self.is_closed

    def rollback(self, count: int) -> None:
        if self.is_closed and count:
            self.is_closed, count = False, count - 1
        super().rollback(count)

    def fork(self) -> State:
        return State(self._inner.fork(), self._endings, is_closed=self.is_closed)

    def _ends(self, token: int) -> bool:
        mask = self._endings.blank()
        self.fill(mask)
        return bool(mask[token // 32] >> np.uint32(token % 32) & np.uint32(1))
