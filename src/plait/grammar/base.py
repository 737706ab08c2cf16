"""The contract of a grammar: which tokens may come next, at every place of an answer.

A `Compiler` turns what a request asks for into a `State`, which is the request's own and follows its answer token by
token. A state is asked for three things: the *mask* of the tokens that may come next, the *forced* token where the text
leaves no choice, and whether the answer may end here (`is_accepting`) or has to (`is_finished`).

**Masks.** Bit i % 32 of word i // 32 says that token i may come next: its bytes go on from what was said, also where
they end in the middle of a character, so that the whole can still be completed. Tokens that end an answer may come
where the state is accepting, and nowhere else. No other control token ever may.

**Forced tokens.** Where the next bytes are certain, several tokens may spell their beginning. Then only the one may come
that the tokenizer itself would begin with, as models know it from their training. So a forced token need not be
chosen, and an answer is the same whether or not somebody jumps over it.

**Threads.** A compiler may be asked from any thread. A state is used by one thread at a time.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from plait.core.places import Guide
from plait.core.structured import StructuredOutputs
from plait.core.window import Masks

Words = NDArray[np.uint32]


class Lexicon(Protocol):
    """What has to be known of a tokenizer (text/tokenizer.py is one)."""

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids that are never text."""

    def vocabulary(self) -> list[bytes]:
        """What each token adds to the text, not always whole characters."""

    def encode(self, text: str, *, add_special: bool) -> list[int]:
        """Token ids of a text."""


class State(ABC):
    """Where an answer stands in its grammar.

    num_tokens: of the answer, that it has been told of. seconds: that its last mask took. is_closed: the last of them is
    none of the answer, it only ended it (open_end.py). led_from: behind so many tokens
    nothing was the choice of a model (leading.py).
    """

    num_tokens: int = 0
    seconds: float = math.inf
    is_closed: bool = False
    led_from: int | None = None

    @property
    @abstractmethod
    def is_accepting(self) -> bool:
        """Whether the answer may end here."""

    @property
    @abstractmethod
    def is_finished(self) -> bool:
        """Whether nothing may follow any more."""

    @abstractmethod
    def fill(self, mask: Words) -> None:
        """Write which tokens may come next, uint32 [words]. Raises UserError when that takes too much."""

    def current(self, num_words: int) -> Masks:
        """The same, uint32 [1, num_words], until it is asked for again."""
        masks: Masks = np.empty((1, num_words), np.uint32)
        self.fill(masks[0])
        return masks

    @abstractmethod
    def forced(self) -> int | None:
        """The one token that may come next because its text is certain; None where there is a choice."""

    @abstractmethod
    def advance(self, token: int) -> bool:
        """Go on by a token; False, and nothing has changed, for one that may not come next. Raises UserError when that
        takes too much."""

    @abstractmethod
    def rollback(self, count: int) -> None:
        """Take back the last tokens."""

    @abstractmethod
    def fork(self) -> State:
        """A second one at the same place, that goes its own way."""

    def replay(self, tokens: Iterable[int]) -> int:
        """Go on by tokens up to one that may not come next; how many could."""
        count = 0
        for token in tokens:
            if not self.advance(token):
                break
            count += 1
        return count


class Around(State):
    """A state that changes what another one, its inner, lets through. Nobody else asks that one."""

    def __init__(self, inner: State) -> None:
        self._inner = inner

    @property
    def num_tokens(self) -> int:  # type: ignore[override]
        return self._inner.num_tokens

    @property
    def is_accepting(self) -> bool:
        return self._inner.is_accepting

    @property
    def is_finished(self) -> bool:
        return self._inner.is_finished

    def fill(self, mask: Words) -> None:
        self._inner.fill(mask)

    def forced(self) -> int | None:
        return self._inner.forced()

    def rollback(self, count: int) -> None:
        self._inner.rollback(count)


class Compiler(ABC):
    """Makes states for one tokenizer, and keeps what it has compiled. num_words: of a mask. completer: finds how answers
    can be completed."""

    num_words: int
    completer: Guide

    @abstractmethod
    def compile(self, asked: StructuredOutputs) -> State:
        """The state of an answer that has not begun. Raises UserError for what cannot be understood or would take too
        much time or memory."""


def bits(mask: Words) -> Sequence[int]:
    """The tokens that a mask lets through, ascending."""
    found: list[int] = np.flatnonzero(
        np.unpackbits(mask.view(np.uint8), bitorder="little")
    ).tolist()
    return found
