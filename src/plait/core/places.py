"""Places: the part of a canvas that is not final yet, as whoever looks for its completion sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from plait.core.sequence import Sequence
from plait.core.window import Floats

WITNESS = "witness"
"""Where `Sequence.scratch` keeps one."""


class Places(NamedTuple):
    """known: the token of each place from `first` on, None where it is open; up to the limit of the canvas, also where
    that is not laid out yet. last: the last position that holds a token; no answer may end before it, -1 for none."""

    first: int
    known: list[int | None]
    last: int

    def behind(self, count: int) -> Places:
        """Without the first ones."""
        return Places(self.first + count, self.known[count:], self.last)

    def may_end(self, position: int) -> bool:
        """Whether the token there may be the last."""
        return position >= self.last


class Witness(NamedTuple):
    """One way in which an answer can be completed from position `first` on, up to its end or that of the canvas. effort:
    that was spent on looking for others since the request began."""

    first: int
    tokens: tuple[int, ...]
    effort: int = 0

    def after(self, position: int) -> tuple[int, ...]:
        """What is left of it."""
        return self.tokens[position - self.first :]


class Hint(NamedTuple):
    """What a model says of an open place: scores of all tokens, float32 [vocab_size], and the best of them."""

    scores: Floats
    best: list[int]


Hints = Callable[[int], Hint | None]
"""Of the place at a position; None where the model was not asked about it."""


class Effort:
    """How many tokens may still be tried."""

    def __init__(self, most: int) -> None:
        self.left = most

    def part(self, share: int) -> Effort:
        """One part of so many, which is taken off."""
        own = Effort(self.left // share)
        self.left -= own.left
        return own

    def join(self, part: Effort) -> None:
        """Give back what is left of it."""
        self.left += part.left


class Guide(Protocol):
    """Who finds completions (grammar/completing.py)."""

    def blank(self) -> NDArray[np.uint32]:
        """A mask to fill."""

    def without_end(self, mask: NDArray[np.uint32]) -> None:
        """Take the tokens that end an answer from it."""

    def complete(
        self, state: Any, places: Places, effort: Effort, hints: Hints | None = None
    ) -> list[int] | None:
        """Tokens for the places behind a grammar's state, up to one behind which nothing may follow or to the end of the
        canvas; None where none were found. The state stays where it is. hints: of a model."""


def places(seq: Sequence) -> Places:
    """Of all that is not final."""
    first = seq.final
    held = zip(seq.tokens[first:].tolist(), seq.masked[first:].tolist(), strict=True)
    known = [None if is_open else token for token, is_open in held]
    last = max((i for i, token in enumerate(known) if token is not None), default=-1 - first)
    known += [None] * (seq.limit - seq.length)
    return Places(first, known, first + last)
