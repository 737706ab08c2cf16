"""Many requests at once: tokens per second of all together."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from plait.analysis import drive
from plait.core.params import SamplingParams
from plait.engine.engine import Engine


@dataclass(frozen=True, slots=True)
class Load:
    """batch: requests that arrive together. prompt_tokens, tokens: of each."""

    batch: int
    prompt_tokens: int
    tokens: int


def measure(engine: Engine, load: Load, runs: int) -> dict[str, Any]:
    """Medians over `runs` runs after one warm-up, every run with prompts of its own.

    Rates are tokens per second; time_to_first_token (seconds) is the median over the requests of a run;
    cached_tokens are those of the prompts that did not have to be computed (none, since all differ).
    """
    results = [_run(engine, load, number) for number in range(runs + 1)][1:]
    return {**asdict(load), "median": {k: median(r[k] for r in results) for k in results[0]}}


def _run(engine: Engine, load: Load, number: int) -> dict[str, float]:
    params = SamplingParams(temperature=0.0, max_tokens=load.tokens, ignore_eos=True)
    began = time.perf_counter()
    for place in range(load.batch):
        prompt = drive.random_prompt(engine, load.prompt_tokens, number * load.batch + place)
        engine.add(prompt, params)
    ended = []
    while engine.has_work:
        for event in engine.step():
            if event.error:
                raise RuntimeError(event.error)
            if event.metrics is not None:
                ended.append(event.metrics)
    seconds = time.perf_counter() - began
    waits = [m.first_token_time - m.arrival_time for m in ended if m.first_token_time is not None]
    return {
        "seconds": seconds,
        "tokens_per_second": load.batch * load.tokens / seconds,
        "all_tokens_per_second": load.batch * (load.prompt_tokens + load.tokens) / seconds,
        "time_to_first_token": median(waits),
        "cached_tokens": sum(m.num_cached_tokens for m in ended),
    }
