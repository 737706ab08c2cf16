"""The contract of a decoding strategy, and its manual.

A decoder turns logits into an `Update` and does nothing else. It is **pure**: it may read the sequence and
the window, it may not change them or the logits, and it keeps nothing about a request between calls (what
has to be remembered lies in `seq.scratch`; what follows from a request's parameters
and seed alone may be worked out once and left in `seq.memo`). One decoder object serves all requests.

**Rows.** logits[i] decides canvas position window.targets[i]. A target that is still open (masked, or equal
to seq.length) is a candidate to be written. A target that is already decided is only *scored*: if the
request has `prompt_logprobs`, the log-probability of the token that stands there goes into
`Update.logprobs`; nothing is written.

**Determinism.** A choice may depend on the canvas, the request's parameters, its seed and the position, and
on nothing else: not on the row's place in the batch, not on how often it was computed. Random numbers come
from `kernels.sampling` keyed by (seed, position).

**Memory.** What a decoder has to know of earlier steps it leaves in `Update.memory` and finds in
`seq.scratch`; nothing that it left is changed in place. Of planners for masked canvases it finds there "steps"
(deciding forwards of the request before this one) and "opened" (positions that were open when the block began).

**Progress.** If at least one target is open, at least one token is written.

**Errors.** Logits that hold NaN or +inf are a FloatingPointError; the engine ends that request alone.

**Many at once.** `decide_all` is given all requests of a step that have this decoder, so that their rows can
be shared out to the threads. What it says of one request depends on that request alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from plait.core import registry
from plait.core.aids import NO_AIDS, Aids
from plait.core.params import SamplingParams
from plait.core.places import Guide
from plait.core.sequence import Sequence
from plait.core.traits import Traits
from plait.core.window import NO_INTS, Floats, Ints, Masks, Update, Window
from plait.kernels import sampling
from plait.kernels.plan import Pool


@dataclass(frozen=True, slots=True)
class Options:
    """A decoder without settings."""


class Walk(Protocol):
    """What a decoder needs of a grammar's state (grammar/base.py)."""

    @property
    def is_accepting(self) -> bool:
        """Whether the answer may end here."""

    @property
    def is_finished(self) -> bool:
        """Whether nothing may follow any more."""

    def fill(self, mask: NDArray[np.uint32]) -> None:
        """Write which tokens may come next, uint32 [words]."""

    def advance(self, token: int) -> bool:
        """Go on by a token."""

    def rollback(self, count: int) -> None:
        """Take back the last tokens."""

    def fork(self) -> Self:
        """A second one at the same place."""

    def replay(self, tokens: Iterable[int]) -> int:
        """Go on by tokens up to one that may not come next; how many could."""


class Item(NamedTuple):
    """One request's rows: logits float32 [len(window.rows), vocab_size], at least one.

    beside: of a request with a second stream (Sequence.second), its logits for the last target, float32 [vocab_size];
    None where the step did not get that far, and then no open target is among the rows.
    masks: what a grammar lets the open rows choose; None: everything. walk: where it stands before the first open row,
    of a planner whose rows are decided together; whoever goes on by it goes back. guide: of a planner whose open places
    lie between others, finds completions (guided.py); then the walk stands behind all that is final.
    """

    logits: Floats
    seq: Sequence
    window: Window
    beside: Floats | None = None
    masks: Masks | None = None
    walk: Walk | None = None
    guide: Guide | None = None


class Decoder(ABC):
    """See the module's text for the contract. Siblings are built as `Decoder(options, traits)`.

    threads: set by whoever has some. aids: see `equip`. edits: may write again, or mask again, what it wrote; then the window's
    targets are all positions that are not final, and `Update.settled` says when it has come to rest. contrasts: wants
    to see other logits beside those of the request. constrains: whether it keeps to `Item.masks`; walks: to
    `Item.walk`. verifies: whether it takes of a draft only what it would have written without it, or says that it is
    lossy. is_guided: whether it goes by proposals and their confidence alone, so that others may be put in their
    place (guided.py).
    """

    edits: bool = False
    contrasts: bool = False
    constrains: ClassVar[bool] = False
    walks: ClassVar[bool] = False
    verifies: ClassVar[bool] = False
    threads: Pool | None = None
    aids: Aids = NO_AIDS

    def __init__(self, options: Any, traits: Traits) -> None:
        self.options = options
        self.traits = traits

    @property
    def is_guided(self) -> bool:
        return False

    @property
    def threshold(self) -> float | None:
        """The confidence from which it writes; None for one that goes by something else."""
        return getattr(self.options, "threshold", None)

    def at(self, threshold: float) -> Self:
        """The same with another threshold, for one that has one."""
        twin = type(self)(replace(self.options, threshold=threshold), self.traits)
        twin.threads = self.threads
        return twin

    def equip(self, aids: Aids) -> None:
        """Called once, before the first request. Raises UserError when something that the options ask for is
        missing."""
        self.aids = aids

    def is_lossy(self, params: SamplingParams) -> bool:
        """Whether it may take drafted tokens that it would not have chosen without a draft."""
        return False

    def second_prompt(self, prompt: Ints) -> Ints | None:
        """What a second stream of a request begins with, int32 [n], n >= 1; None for no such stream. Raises UserError
        for a prompt that gives none."""
        return None

    def best(self, seq: Sequence, window: Window) -> int:
        """How many of the best logits of each row `decide` needs, the others being -inf for all it cares;
        0: all. Fewer may cost much less. Pure, like `decide`."""
        return 0

    @abstractmethod
    def decide_all(self, items: list[Item]) -> list[Update | Exception]:
        """What to write for each request, or why nothing can be."""

    def decide(self, logits: Floats, seq: Sequence, window: Window) -> Update:
        """`decide_all` for one request. Raises what is wrong with it."""
        (update,) = self.decide_all([Item(logits, seq, window)])
        if isinstance(update, Exception):
            raise update
        return update


class Wrapper(Decoder):
    """A decoder that changes what another one, its `inner`, is told.

    default_inner: the sibling that stands inside when none is named.
    """

    default_inner: ClassVar[str] = "threshold"

    def __init__(self, options: Any, traits: Traits, inner: Decoder | None = None) -> None:
        super().__init__(options, traits)
        if inner is None:
            module = registry.load("decoding", self.default_inner)
            inner = module.Decoder(module.Options(), traits)
        assert inner is not None
        self.inner = inner
        self.edits, self.contrasts = inner.edits, self.contrasts or inner.contrasts

    @property
    def is_guided(self) -> bool:
        return self.inner.is_guided

    @property
    def threshold(self) -> float | None:
        return self.inner.threshold

    def at(self, threshold: float) -> Self:
        twin = type(self)(self.options, self.traits, self.inner.at(threshold))
        twin.threads = self.threads
        return twin

    def equip(self, aids: Aids) -> None:
        super().equip(aids)
        self.inner.equip(aids)

    def is_lossy(self, params: SamplingParams) -> bool:
        return self.inner.is_lossy(params)

    def second_prompt(self, prompt: Ints) -> Ints | None:
        return self.inner.second_prompt(prompt)


_NOISE = 0xBB67AE8584CAA73B
"""Keeps the random numbers of noise apart from those of tokens."""
_NO_ROWS: Floats = np.zeros((0, 0), np.float32)


def noise(seq: Sequence, positions: Ints, turn: int, traits: Traits) -> Ints:
    """Uniformly random tokens, never the mask token, of (seed, position, turn)."""
    count = traits.vocab_size - (traits.mask_token is not None)
    seed = (seq.seed ^ _NOISE) % 2**64
    drawn = [int(sampling.uniform(seed, turn << 32 | p) * count) for p in positions.tolist()]
    tokens = np.array(drawn, np.int32)
    return tokens if traits.mask_token is None else tokens + (tokens >= traits.mask_token)


class Rows(NamedTuple):
    """An item taken apart: logits and targets that are open, and those that are only scored."""

    seq: Sequence
    logits: Floats
    targets: Ints
    scored_logits: Floats
    scored: Ints
    masks: Masks | None = None


def undecided(seq: Sequence, targets: Ints) -> NDArray[np.bool_]:
    """Which targets hold no token: they are masked, or the canvas ends before them."""
    inside = targets < seq.length
    is_open = ~inside
    is_open[inside] = seq.masked[targets[inside]]
    return is_open


def split(item: Item, *, edits: bool = False) -> Rows:
    """Which of the window's targets are still to be decided, and which stand.

    edits: all that are not final are to be decided, again if need be.
    """
    logits, seq, targets = item.logits, item.seq, item.window.targets
    if len(targets) and targets.item(0) >= seq.length:  # all of them: they ascend
        return Rows(seq, logits, targets, _NO_ROWS, NO_INTS, item.masks)
    is_open = undecided(seq, targets)
    if edits:
        is_open |= targets >= seq.final
    return Rows(
        seq,
        logits[is_open],
        targets[is_open],
        logits[~is_open],
        targets[~is_open],
        item.masks,
    )
