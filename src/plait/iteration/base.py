"""The contract of a planner (the iteration manager), its manual, and what the scheduler hands around.

A planner knows one way to generate: which slots to feed next, which rows of logits are wanted, and when a
token can never change again. It knows nothing of other requests, of memory or of logits. Planner objects
are **stateless**: what a request needs to remember is on its canvas, or in `seq.scratch`, which dies with it.

**Life of a request.** `admit` once; then `next` -> forward -> `Decoder.decide` -> `Sequence.apply` ->
`absorb`, again and again until the engine sees `seq.final` reach `seq.limit` or a stop token.

**Preemption.** Between an `absorb` and the next `next`, slots may be lost (`stored` falls back, perhaps to
0) while the canvas stays, or be found in the cache (`stored` goes ahead, up to `seq.final`). A planner answers
by feeding the canvas from there, or again, and must come to the same tokens.

**Windows.** Of the window that `next` returns the scheduler relies on:

    window.start <= stored, or <= what is held by a planner that approximates; 1 <= window.length <= budget
    keep lies in [start, end]; a slot is kept as EXACT only if everything it saw was final
    a slot behind the window is seen (Window.reach) only if it is held
    targets ascend; with budget >= smallest_window the answer is never None, and every step that is not
    short of budget brings the request nearer to its end
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol

from plait.core.config import PAGE
from plait.core.errors import UserError
from plait.core.params import SamplingParams
from plait.core.places import Guide
from plait.core.sequence import Sequence
from plait.core.step import StepInput
from plait.core.traits import Traits
from plait.core.window import KVView, Masks, PatternKind, Update, Window
from plait.decoding.base import Decoder
from plait.grammar.base import State
from plait.iteration.company import Company
from plait.iteration.pace import StepTime
from plait.proposers.base import Resources


@dataclass(frozen=True, slots=True)
class Options:
    """A planner without settings."""


@dataclass(frozen=True, slots=True)
class Equipment:
    """What an engine has for its planners. company: what a step costs, and who shares it. proposing: for proposers.
    budget: positions that one step may feed."""

    company: Company = field(default_factory=Company)
    proposing: Resources = field(default_factory=Resources)
    budget: int = sys.maxsize


class Planner(ABC):
    """See the module's text for the contract. Siblings are built as `Planner(options, traits)`.

    default_decoder: the sibling in `decoding` that "auto" means with this planner.
    generates: False for one that only computes log-probabilities.
    fills: whether it honours `SamplingParams.infill`.
    waits: whether it keeps a block open for a decoder that edits.
    is_whole: a canvas cannot be fed in pieces.
    kinds: of attention that it can do with, the best first; empty: any.
    pairs: whether a second stream (Sequence.second) can go along.
    drafts: whether it may, if it knows how; its decoder verifies them.
    constrains: every token that it lays out follows those before it, so that a grammar can say which may come.
    walks: what is final of an answer is its beginning, and the open places that a step decides lie right behind it.
    guides: the same, but open places may lie between others; whatever is written, the rest has to fit (decoding/guided.py).
    approximates: goes on from APPROX slots too.
    needs_slots: cannot go on with a cache that keeps nothing.
    time: what a step costs on this machine, where it was measured; set before the first request.
    pattern: the attention that it computes K/V with; the same tokens are other K/V with another.
    """

    default_decoder: ClassVar[str] = "sample"
    generates: ClassVar[bool] = True
    fills: ClassVar[bool] = False
    waits: ClassVar[bool] = False
    is_whole: ClassVar[bool] = False
    kinds: ClassVar[tuple[PatternKind, ...]] = ()
    pairs: ClassVar[bool] = False
    constrains: ClassVar[bool] = False
    drafts: bool = True
    walks: ClassVar[bool] = False
    guides: ClassVar[bool] = False
    approximates: bool = False
    needs_slots: bool = False
    time: StepTime | None = None

    def __init__(self, options: Any, traits: Traits) -> None:
        """Raises UserError when a model with these traits cannot generate this way."""
        self.options = options
        self.traits = traits
        self.pattern = traits.pattern
        self.equipment = Equipment()

    def equip(self, equipment: Equipment) -> None:
        """Called once, before the first request. Raises UserError when something is missing."""
        self.equipment = equipment

    @property
    def name(self) -> str:
        """Its public name: that of its file."""
        return type(self).__module__.rpartition(".")[2]

    @property
    def is_drafting(self) -> bool:
        """Whether it has anybody who drafts."""
        return False

    @property
    def words(self) -> tuple[str, ...]:
        """What it chose itself, a line each, for people."""
        return ()

    @property
    def smallest_window(self) -> int:
        """The least budget with which every request can go on."""
        return 1

    def streams(self, seq: Sequence, stored: int) -> bool:
        """Whether a request that has begun waits for its next tokens rather than for its prompt."""
        return self.is_whole or seq.length - stored <= 2 * self.smallest_window

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
        """The next forward. None: nothing fits in the budget.

        stored: leading slots whose K/V is EXACT; for a planner that approximates, EXACT or APPROX.
        """

    @abstractmethod
    def absorb(self, seq: Sequence, window: Window, update: Update) -> None:
        """Take note of what was decided: advance `seq.final`, open the next part of the canvas."""


def check_fit(planner: Planner, decoder: Decoder, params: SamplingParams) -> None:
    """Raises UserError for a planner and a decoder that do not fit the request or each other."""
    if params.infill and not planner.fills:
        raise UserError(
            "infill needs a way of generating that fills in stretches of a prompt",
            "use a model with full attention and the planner 'canvas', or leave infill out",
        )
    if decoder.contrasts and not planner.pairs:
        raise UserError(
            "decoder: one that contrasts two streams needs a model that generates left to right",
            "use the planner 'autoregressive', or another decoder",
        )
    if params.structured_outputs and not can_fit(planner, decoder):
        raise UserError(
            "structured output: this planner and this decoder cannot keep to a grammar together",
            "use the planner 'autoregressive' or 'speculative' with the decoder 'auto', 'block' with 'threshold', "
            "'canvas' with 'threshold', 'hierarchical', 'factor' or 'fixed_steps' (score confidence or random), or "
            "leave it out",
        )
    if not decoder.edits:
        return
    if not planner.waits:
        raise UserError(
            "decoder: one that edits needs a planner that keeps blocks open",
            "use the planner 'block' or 'canvas', or the decoder 'auto'",
        )
    if params.infill:
        raise UserError(
            "infill: a decoder that edits could change what was given", "use another decoder"
        )


def can_fit(planner: Planner, decoder: Decoder) -> bool:
    """Whether they can keep to a grammar: token by token, a block in order, or a canvas by proposals."""
    return (
        (planner.constrains and decoder.constrains)
        or (planner.walks and decoder.walks)
        or (planner.guides and decoder.is_guided)
    )


class ChooseParts(Protocol):
    """Names of a planner and a decoder ("auto" for the model's own) to the parts, with options by name; raises
    UserError."""

    def __call__(
        self, planner: str, decoder: str, options: Mapping[str, str] | None = None
    ) -> tuple[Planner, Decoder]: ...


Account = tuple[int, str]
"""Priority and tenant: those within an account stand in line, accounts of one priority share."""


@dataclass(eq=False, slots=True)
class Request:
    """A sequence with its parts and its place in the queue.

    priority: lower goes first; within one priority tenants share, and within a tenant `arrival` counts.
    deadline: time (time.perf_counter) by which it has to end. served: number of the step that last
    planned a window for it. grammar: where its answer stands, if it has to fit one; guide: finds completions, of a
    planner that guides.
    """

    seq: Sequence
    planner: Planner
    decoder: Decoder
    priority: int = 0
    tenant: str = ""
    deadline: float | None = None
    grammar: State | None = None
    guide: Guide | None = None
    arrival: int = 0
    served: int = 0

    @property
    def account(self) -> Account:
        return self.priority, self.tenant

    @property
    def streams(self) -> list[Sequence]:
        """Its sequence, and the second one if it has one."""
        return [self.seq] if self.seq.second is None else [self.seq, self.seq.second]

    @property
    def span(self) -> int:
        """The most slots that it can ever need; two streams lie in pages of their own."""
        own, second = self.planner.span(self.seq), self.seq.second
        if second is None:
            return own
        other = self.seq.limit - self.seq.length + second.length
        return sum(-(-slots // PAGE) * PAGE for slots in (own, other))

    @property
    def rank(self) -> tuple[int, int]:
        """Smaller is more urgent; no two requests are equal."""
        return self.priority, self.arrival


class Job(NamedTuple):
    """One request's part of the next forward. second: what its second stream feeds in it, if anything. masks: what
    its rows may choose by its grammar, where that was known before the forward."""

    request: Request
    window: Window
    view: KVView
    second: StepInput | None = None
    masks: Masks | None = None

    @property
    def length(self) -> int:
        """Positions fed."""
        window, second = self.window, self.second
        own = window.end - window.start
        return own if second is None else own + second.window.length

    @property
    def inputs(self) -> list[StepInput]:
        """One, or two with a second stream."""
        seq, window = self.request.seq, self.window
        is_unknown = self.request.grammar is not None and self.masks is None
        wants_all = window.remember or window.guidance or is_unknown
        best = 0 if wants_all else self.request.decoder.best(seq, window)
        own = StepInput(seq, window, self.view, best, self.masks if best else None)
        return [own, self.second] if self.second else [own]
