"""Plain data that flows between the rooms: Window (what to compute), Update (what was decided), KVView.

Words: a *slot* is an index into a sequence's KV cache and equals the canvas position it belongs to;
a *position* is what the rotary embedding sees (the same number except in draft trees).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]
Masks = NDArray[np.uint32]
"""[rows, words]: bit i % 32 of word i // 32 says that id i may be chosen."""

NO_INTS: Ints = np.zeros(0, np.int32)
NO_INTS.setflags(write=False)


class Slot(IntEnum):
    """State of one cached slot. Only EXACT slots may be reused by a later forward or shared."""

    EMPTY = 0
    EXACT = 1
    APPROX = 2


class PatternKind(IntEnum):
    """Which slots a row may see. The numbers are those of `csrc/include/plait/batch.h`."""

    CAUSAL = 0
    BLOCK = 1
    FULL = 2
    PREFIX = 3
    TREE = 4


@dataclass(frozen=True, slots=True)
class Pattern:
    """Attention pattern of one window. The row at slot s sees slots [0, limit(s)) of its sequence:

    CAUSAL     limit = s + 1
    BLOCK(n)   limit = end of the n-block that holds s (blocks count from slot 0), at most the window end
    FULL(n)    limit = max(n, window end): slots behind the window are read as they stand in the cache
    PREFIX(n)  limit = max(n, s + 1), at most the window end
    TREE(mask) everything before the window, and inside it what mask[row] says: bool [rows, rows]
    """

    kind: PatternKind
    size: int = 0
    mask: NDArray[np.bool_] | None = None


_FULL = PatternKind.FULL  # to look up a member costs a call
CAUSAL = Pattern(PatternKind.CAUSAL)
FULL = Pattern(PatternKind.FULL)


def block(size: int) -> Pattern:
    """Bidirectional inside blocks of `size` slots, causal across them."""
    return Pattern(PatternKind.BLOCK, size)


def full(reach: int) -> Pattern:
    """Every row sees slots [0, reach), also those behind its window."""
    return Pattern(PatternKind.FULL, reach)


class Soft(NamedTuple):
    """Mixtures of token embeddings, added to the embeddings of what is fed (iteration smoothing).

    rows: offsets into the window, int32 [m], ascending. To the row i of them is added
    sum_j weights[i, j] * embedding of tokens[i, j]; tokens: int32 [m, k], weights: float32 [m, k].
    """

    rows: Ints
    tokens: Ints
    weights: Floats


class Window(NamedTuple):
    """One forward for one sequence: slots [start, end) are fed.

    rows: offsets into the window whose logits are wanted, int32 [r], ascending.
    targets: canvas positions that those rows decide, int32 [r]; for a model that predicts the NEXT
        token target = start + row + 1, for one that predicts the SAME position target = start + row.
        A target that is already decided is only scored. Empty while nothing is wanted (a prompt chunk).
    keep: slots [start, keep) hold K/V worth keeping after this forward, marked as `mark`.
    positions: rotary positions, int32 [end - start]; None means the slot numbers.
    embeddings: float32 [end - start, width], fed instead of token embeddings; None means token ids.
    tokens: ids fed instead of those on the canvas, int32 [end - start]; None means the canvas.
    soft: what is added to the embeddings of some rows.
    remember: k, to keep the k best probabilities of each target that stays open in scratch["soft"]; 0: none.
    guidance: w. If it is not 0 there are two rows for each target, in two halves: with the prompt, and
        without it; its logits are without + (w + 1) (with - without) (classifier-free guidance,
        arXiv:2207.12598).
    parents: of the drafted rows that end the window, what each follows: 0 is the last row before them, i > 0 the
        i-th drafted row; int32 [drafted], parents[i] <= i. Their targets are counted along the branch. A first
        branch 0, 1, 2, ... lies in the slots that plain decoding would use; the others need positions and a TREE.
    """

    start: int
    end: int
    rows: Ints = NO_INTS
    targets: Ints = NO_INTS
    pattern: Pattern = CAUSAL
    keep: int = 0
    mark: Slot = Slot.EXACT
    positions: Ints | None = None
    embeddings: Floats | None = None
    tokens: Ints | None = None
    soft: Soft | None = None
    remember: int = 0
    guidance: float = 0.0
    parents: Ints = NO_INTS

    @property
    def length(self) -> int:
        """Number of positions fed."""
        return self.end - self.start

    def kept(self, accepted: int) -> Window:
        """The same when so many drafted tokens proved right, whose K/V is then worth keeping."""
        return self._replace(keep=self.keep + accepted)

    @property
    def undrafted(self) -> Window:
        """The same without drafted rows, and so without a tree of them."""
        count = len(self.parents)
        assert self.tokens is not None
        own = self
        if self.pattern.kind is PatternKind.TREE:
            own = self._replace(pattern=CAUSAL, positions=None)
        return own._replace(
            end=self.end - count,
            rows=self.rows[:-count],
            targets=self.targets[:-count],
            tokens=self.tokens[:-count],
            parents=NO_INTS,
        )

    @property
    def reach(self) -> int:
        """Where the slots end that its rows may see."""
        return max(self.end, self.pattern.size) if self.pattern.kind is _FULL else self.end


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Log-probabilities at one position, of the raw model distribution (before any processor).

    token: log-probability of the token that was written. top: {token id: log-probability}, best first.
    rank: 1 + number of tokens more probable than the written one.
    """

    token: float
    rank: int
    top: dict[int, float]


class Update(NamedTuple):
    """What a decoder decided.

    positions, tokens: write tokens[i] at canvas position positions[i]; int32 [n] each. A position equal
        to the sequence's length appends.
    remask: canvas positions to mask again, int32 [m]; noise: what they hold then, int32 [m], None for
        the mask token.
    settled: whether what stands in the block will not be changed again once nothing in it is open; of
        decoders that edit.
    memory: what the decoder wants to find in `seq.scratch` at its next decision, by name.
    accepted: for verification, how many drafted tokens the target agreed with that lie one after the other
        from the first drafted slot on: their K/V is what plain decoding would have computed.
    logprobs: canvas position -> log-probabilities of the token there. Holds the written tokens when the
        request asked for `logprobs`, and the tokens that rows with an already decided target scored
        (`prompt_logprobs`): rows are reduced in the step that computes them and never kept.
    """

    positions: Ints = NO_INTS
    tokens: Ints = NO_INTS
    remask: Ints = NO_INTS
    accepted: int = 0
    logprobs: Mapping[int, TokenLogprobs] = MappingProxyType({})
    noise: Ints | None = None
    settled: bool = True
    memory: Mapping[str, Any] = MappingProxyType({})


NOTHING = Update()


class KVView(NamedTuple):
    """Where a window finds and leaves its K/V: pages[i] holds slots [i*PAGE, (i+1)*PAGE) of the sequence.

    pages: page numbers in the pool, int32 [ceil(window.reach / PAGE)]. Pages that hold slots at or after
        window.start are owned by this sequence alone (they will be written).
    """

    pages: Ints


class FinishReason(StrEnum):
    """Why a request ended, in OpenAI's words plus our own three."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"
    DEADLINE = "deadline"
    ERROR = "error"
