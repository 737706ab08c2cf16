"""The contract of a planner (the iteration manager), its manual, and what the scheduler hands around.

A planner knows one way to generate: which slots to feed next, which rows of logits are wanted, and when a
token can never change again. It knows nothing of other requests, of memory or of logits. Planner objects
are **stateless**: what a request needs to remember is on its canvas, or in `seq.scratch`, which dies with it.

**Life of a request.** `admit` once; then `next` -> forward -> `Decoder.decide` -> `Sequence.apply` ->
`absorb`, again and again until the engine sees `seq.final` reach `seq.limit` or a stop token.

**Preemption.** Between an `absorb` and the next `next`, slots may be lost (`stored` falls back, perhaps to
0) while the canvas stays. A planner answers by feeding the canvas again, and must come to the same tokens.

**Windows.** Of the window that `next` returns the scheduler relies on:

    window.start <= stored, 1 <= window.length <= budget
    keep lies in [start, end]; a slot is kept as EXACT only if everything it saw was final
    targets ascend; with budget >= smallest_window the answer is never None, and every step that is not
    short of budget brings the request nearer to its end
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from plait.core.sequence import Sequence
from plait.core.step import StepInput
from plait.core.traits import Traits
from plait.core.window import KVView, Update, Window
from plait.decoding.base import Decoder


@dataclass(frozen=True, slots=True)
class Options:
    """A planner without settings."""


class Planner(ABC):
    """See the module's text for the contract. Siblings are built as `Planner(options, traits)`.

    default_decoder: the sibling in `decoding` that "auto" means with this planner.
    """

    default_decoder: ClassVar[str] = "sample"

    def __init__(self, options: Any, traits: Traits) -> None:
        """Raises UserError when a model with these traits cannot generate this way."""
        self.options = options
        self.traits = traits

    @property
    def smallest_window(self) -> int:
        """The least budget with which every request can go on."""
        return 1

    @abstractmethod
    def admit(self, seq: Sequence) -> None:
        """Prepare the canvas of a new request; called once, not again after a preemption.

        May lower `seq.limit`. Raises UserError for parameters that this way of generating cannot honour.
        """

    @abstractmethod
    def span(self, seq: Sequence) -> int:
        """The most slots that this request can ever need."""

    @abstractmethod
    def next(self, seq: Sequence, stored: int, budget: int) -> Window | None:
        """The next forward. stored: leading slots whose K/V is EXACT. None: nothing fits in the budget."""

    @abstractmethod
    def absorb(self, seq: Sequence, window: Window, update: Update) -> None:
        """Take note of what was decided: advance `seq.final`, open the next part of the canvas."""


ChooseParts = Callable[[str, str], tuple[Planner, Decoder]]
"""Names of a planner and a decoder ("auto" for the model's own) -> the parts. Raises UserError."""


Account = tuple[int, str]
"""Priority and tenant: those within an account stand in line, accounts of one priority share."""


@dataclass(eq=False, slots=True)
class Request:
    """A sequence with its parts and its place in the queue.

    priority: lower goes first; within one priority tenants share, and within a tenant `arrival` counts.
    deadline: time (time.perf_counter) by which it has to end. served: number of the step that last
    planned a window for it.
    """

    seq: Sequence
    planner: Planner
    decoder: Decoder
    priority: int = 0
    tenant: str = ""
    deadline: float | None = None
    arrival: int = 0
    served: int = 0

    @property
    def account(self) -> Account:
        return self.priority, self.tenant

    @property
    def rank(self) -> tuple[int, int]:
        """Smaller is more urgent; no two requests are equal."""
        return self.priority, self.arrival


class Job(NamedTuple):
    """One request's part of the next forward."""

    request: Request
    window: Window
    view: KVView

    @property
    def inputs(self) -> StepInput:
        seq, window = self.request.seq, self.window
        return StepInput(seq, window, self.view, self.request.decoder.best(seq, window))
