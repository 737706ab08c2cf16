"""The contract of a decoding strategy, and its manual.

A decoder turns logits into an `Update` and does nothing else. It is **pure**: it may read the sequence and
the window, it may not change them or the logits, and it keeps nothing about a request between calls (what
has to be remembered lies in `seq.scratch`, put there by the planner). One decoder object serves all
requests.

**Rows.** logits[i] decides canvas position window.targets[i]. A target that is still open (masked, or equal
to seq.length) is a candidate to be written. A target that is already decided is only *scored*: if the
request has `prompt_logprobs`, the log-probability of the token that stands there goes into
`Update.logprobs`; nothing is written.

**Determinism.** A choice may depend on the canvas, the request's parameters, its seed and the position, and
on nothing else: not on the row's place in the batch, not on how often it was computed. Random numbers come
from `kernels.sampling` keyed by (seed, position).

**Progress.** If at least one target is open, at least one token is written.

**Errors.** Logits that hold NaN or +inf raise FloatingPointError; the engine ends that request alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plait.core.sequence import Sequence
from plait.core.traits import Traits
from plait.core.window import Floats, Update, Window


@dataclass(frozen=True, slots=True)
class Options:
    """A decoder without settings."""


class Decoder(ABC):
    """See the module's text for the contract. Siblings are built as `Decoder(options, traits)`."""

    def __init__(self, options: Any, traits: Traits) -> None:
        self.options = options
        self.traits = traits

    def best(self, seq: Sequence, window: Window) -> int:
        """How many of the best logits of each row `decide` needs, the others being -inf for all it cares;
        0: all. Fewer may cost much less. Pure, like `decide`."""
        return 0

    @abstractmethod
    def decide(self, logits: Floats, seq: Sequence, window: Window) -> Update:
        """What to write. logits: float32 [len(window.rows), vocab_size], len >= 1."""


def is_open(seq: Sequence, window: Window) -> NDArray[np.bool_]:
    """Which of the window's targets are still to be decided, bool [r]."""
    targets = window.targets
    inside = targets < seq.length
    open_targets = ~inside
    open_targets[inside] = seq.masked[targets[inside]]
    return open_targets
