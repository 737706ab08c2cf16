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
    """Sums over `total` requests. tokens: that became final. forwards: of a request, prompt and refreshes included
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


def baselines(llm: LLM) -> list[Way]:
    """What the same weights do one token at a time: in a causal mode, if they have one, with and without drafts; and
    from left to right, and surest first, as a masked model."""
    causal = [Way(planner, "auto", (), True) for planner in ("autoregressive", "speculative")]
    masked = [
        Way("auto", "threshold", (("block_size", "1"),), True),
        Way("auto", "threshold", (("threshold", ONE_TOKEN),), True),
    ]
    has_masks = llm.traits.mask_token is not None
    return [way for way in (*causal, *(masked if has_masks else ())) if is_possible(llm, way)]


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
    (not given: 0) + the item's number. Nothing is taken from the prefix cache.

    Raises UserError for what is refused, and RuntimeError when a request breaks off.
    """
    each = [
        replace(params, max_tokens=item.max_tokens, seed=(params.seed or 0) + number)
        for number, item in enumerate(items)
    ]
    outputs: list[RequestOutput] = []
    llm.reset_prefix_cache()
    began = time.perf_counter()
    for first in range(0, len(items), batch):
        prompts = [item.prompt for item in items[first : first + batch]]
        outputs += llm.generate(prompts, each[first : first + batch], **way.choices)
    seconds = time.perf_counter() - began
    return _sum(items, outputs, seconds)


def _sum(items: Sequence[Task], outputs: Sequence[RequestOutput], seconds: float) -> Cost:
    for output in outputs:
        if output.outputs[0].finish_reason not in ("stop", "length"):
            raise RuntimeError(output.outputs[0].error or "a request broke off")
    pairs = zip(items, outputs, strict=True)
    times = [output.metrics for output in outputs]
    return Cost(
        sum(item.is_solved(output.outputs[0].text) for item, output in pairs),
        len(items),
        sum(len(output.outputs[0].token_ids) for output in outputs),
        sum(one.num_forwards for one in times),
        sum(one.num_forwarded_positions for one in times),
        seconds,
        tuple((one.finished_time or 0.0) - one.arrival_time for one in times),
    )
