"""A corpus of token ids that is looked up by what stands before: n-grams of any length, and how often each goes on how.

A trie of all runs of `DEPTH` tokens holds the same as the places of the corpus sorted by the tokens that follow there:
a node is a range of places, its count the length of the range. So a token takes 8 bytes instead of the hundreds of a
trie's nodes, nothing is added up twice, and the longest run that was seen is found by bisection. Documents are kept apart by
a mark that is no token: nothing is read across their ends.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from struct import Struct
from typing import NamedTuple

import numpy as np

from plait.core.window import Ints

DEPTH = 16
"""Places are sorted by so many tokens; a power of two. Longer runs are not told apart."""
TOKEN_BYTES = 8
"""Of the corpus, for each token."""
NUMBER = Struct(">i")
"""A token in memory; the highest byte first, so that bytes are in the order of numbers."""
END = -1
"""Stands behind each document."""
LOOKED_AT = 16
"""Of the places where a run was seen, so many vote on how it goes on, evenly spread."""


class Found(NamedTuple):
    """order: tokens of the longest run at the end of a canvas that the corpus holds; 0: none. places: what follows it
    stands there; of many, some that are evenly spread over the ways to go on."""

    order: int = 0
    places: tuple[int, ...] = ()


class Corpus:
    """Documents for `lookahead`; read only."""

    def __init__(self, tokens: Ints, places: Ints) -> None:
        """As `gathered` and `sorted_places` give them. Raises ValueError for places that are none."""
        if len(places) != len(tokens) or (
            len(tokens) and not 0 <= places.min() <= places.max() < len(tokens)
        ):
            raise ValueError("the order does not fit the tokens")
        # Compared as bytes: END comes last.
        self._bytes = tokens.astype(">u4").tobytes()
        self._places = memoryview(places.astype(np.int32).tobytes()).cast("i")

    def __len__(self) -> int:
        """Tokens, ends of documents included."""
        return len(self._places)

    @property
    def num_bytes(self) -> int:
        """Of memory."""
        return len(self._bytes) + self._places.nbytes

    def token(self, place: int) -> int:
        """END behind a document and behind the last."""
        found: int = NUMBER.unpack_from(self._bytes, 4 * place)[0] if place < len(self) else END
        return found

    def find(self, canvas: list[int], least: int) -> Found:
        """The longest run of `least` to `DEPTH` tokens that ends the canvas and stands in the corpus."""
        key = np.array(canvas[-DEPTH:], ">u4").tobytes()
        low, high, found = least, len(key) // 4, Found()
        while low <= high:
            order = (low + high + 1) // 2
            first, last = self._range(key[len(key) - 4 * order :])
            if first < last:
                low, found = order + 1, Found(order, self._some(first, last, order))
            else:
                high = order - 1
        return found

    def _range(self, run: bytes) -> tuple[int, int]:
        size, own, places = len(run), self._bytes, self._places

        def key(index: int) -> bytes:
            start = 4 * places[index]
            return own[start : start + size]

        first = bisect_left(range(len(places)), run, key=key)
        if first == len(places) or key(first) != run:
            return first, first
        return first, bisect_right(range(len(places)), run, first, key=key)

    def _some(self, first: int, last: int, order: int) -> tuple[int, ...]:
        step = max(1.0, (last - first) / LOOKED_AT)
        count = min(LOOKED_AT, last - first)
        return tuple(self._places[first + int(i * step)] + order for i in range(count))


def gathered(documents: Iterable[Ints]) -> Ints:
    """All documents as one, int32 [n], each with END behind it."""
    end = np.array([END], np.int32)
    parts = [part for document in documents for part in (document.astype(np.int32), end)]
    return np.concatenate(parts) if parts else np.zeros(0, np.int32)


def sorted_places(tokens: Ints) -> Ints:
    """The places of a corpus by the `DEPTH` tokens that begin there, int32 [n]; what is beyond the end comes first."""
    # Twice as many tokens are sorted by in every round: by the ranks of two halves.
    count = len(tokens)
    ranks = np.unique(tokens.view(np.uint32), return_inverse=True)[1].astype(np.int64) + 1
    order = np.argsort(ranks)
    length = 1
    while length < DEPTH and count:
        second = np.zeros(count, np.int64)
        second[:-length] = ranks[length:]
        keys = ranks * (count + 2) + second
        order = np.argsort(keys)
        sorted_keys = keys[order]
        ranks[order] = 1 + np.concatenate([[0], np.cumsum(sorted_keys[1:] != sorted_keys[:-1])])
        length *= 2
    return order.astype(np.int32)
