"""One task under many ways to decode it, and what each of them costs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, NamedTuple, Protocol

from plait.core.errors import UserError
from plait.core.params import SamplingParams
from plait.llm import LLM, RequestOutput

ONE_TOKEN = "2"
"""A threshold that no confidence reaches: the surest token alone is written."""


class Task(Protocol):
    """One question and what answers it."""

    @property
    def prompt(self) -> str: ...

    @property
    def max_tokens(self) -> int: ...

    @property
    def infill(self) -> tuple[tuple[int, int], ...]: ...

    def is_solved(self, text: str) -> bool: ...


class Way(NamedTuple):
    """How to decode. options: as for `Engine.prepare`, pairs of name and text. is_baseline: it is what the others are
    compared with."""

    planner: str
    decoder: str
    options: tuple[tuple[str, str], ...] = ()
    is_baseline: bool = False

    @property
    def label(self) -> str:
        """For people."""
        name = self.planner if self.decoder == "auto" else self.decoder
        return " ".join((name, *(f"{option}={value}" for option, value in self.options)))

    @property
    def choices(self) -> dict[str, Any]:
        """As `LLM.generate` takes it."""
        return {
            "planner": self.planner,
            "decoder": self.decoder,
            "options": dict(self.options),
        }


@dataclass(frozen=True, slots=True)
class Cost:
    """Sums over `total` requests. tokens: that the model wrote. forwards: of a request, prompt and refreshes included
    (NFE). positions: fed by them. seconds: wall clock of all. latencies: seconds of each from submission on."""

    solved: int
    total: int
    tokens: int
    forwards: int
    positions: int
    seconds: float
    latencies: tuple[float, ...]


def ways(decoders: Iterable[str], axes: Mapping[str, Mapping[str, Sequence[str]]]) -> list[Way]:
    """Every combination. axes: decoder -> option name -> values to try with it."""
    found = []
    for decoder in decoders:
        own = axes[decoder]
        for values in product(*own.values()):
            found.append(Way("auto", decoder, tuple(zip(own, values, strict=True))))
    return found


CAUSAL = (
    Way("autoregressive", "auto", (), True),
    Way("speculative", "auto", (), True),
)
"""One token at a time by a causal model, and the same with drafts."""
MASKED = (
    Way("auto", "threshold", (("block_size", "1"),), True),
    Way("auto", "threshold", (("threshold", ONE_TOKEN),), True),
)
"""One token at a time by a masked model: from left to right, and the surest first."""


def is_possible(llm: LLM, way: Way) -> bool:
    """Whether the model can be decoded like this."""
    try:
        llm.worker.engine.prepare([0], SamplingParams(max_tokens=1), **way.choices)
    except UserError:
        return False
    return True


def measure(
    llm: LLM, items: Sequence[Task], way: Way, params: SamplingParams, *, batch: int = 1
) -> Cost:
    """Answer all items, `batch` at a time. params: of each, but for max_tokens and the seed, which is that of `params`
    (not given: 0) + the item's number. The prefix cache begins empty.

    Raises UserError for what is refused, and RuntimeError when a request breaks off.
    """
    each = [_own(params, item, number) for number, item in enumerate(items)]
    outputs: list[RequestOutput] = []
    llm.reset_prefix_cache()
    began = time.perf_counter()
    for first in range(0, len(items), batch):
        prompts = [item.prompt for item in items[first : first + batch]]
        outputs += llm.generate(prompts, each[first : first + batch], **way.choices)
    seconds = time.perf_counter() - began
    return _sum(items, outputs, seconds)


def _own(params: SamplingParams, item: Task, number: int) -> SamplingParams:
    seed = (params.seed or 0) + number
    if item.infill:
        return replace(params, infill=item.infill, seed=seed)
    return replace(params, max_tokens=item.max_tokens, seed=seed)


def _num_decided(item: Task, output: RequestOutput) -> int:
    """Tokens that the model wrote; what was given in between does not count."""
    written = sum(end - start for start, end in item.infill)
    return written or len(output.outputs[0].token_ids)


def _sum(items: Sequence[Task], outputs: Sequence[RequestOutput], seconds: float) -> Cost:
    for output in outputs:
        if output.outputs[0].finish_reason not in ("stop", "length"):
            raise RuntimeError(output.outputs[0].error or "a request broke off")
    pairs = list(zip(items, outputs, strict=True))
    times = [output.metrics for output in outputs]
    return Cost(
        sum(item.is_solved(output.outputs[0].text) for item, output in pairs),
        len(items),
        sum(_num_decided(item, output) for item, output in pairs),
        sum(one.num_forwards for one in times),
        sum(one.num_forwarded_positions for one in times),
        seconds,
        tuple((one.finished_time or 0.0) - one.arrival_time for one in times),
    )
