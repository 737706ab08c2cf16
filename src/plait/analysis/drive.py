"""Driving an engine step by step, so that only the steps in question are timed."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from plait.core.errors import UserError
from plait.core.params import SamplingParams
from plait.core.window import Ints
from plait.engine.engine import Engine

GREEDY = SamplingParams(temperature=0.0, max_tokens=None, ignore_eos=True)
"""Goes on until it is ended from outside, or the context is full."""
KERNELS = "kernel_nanoseconds"
"""The executor's count of the time that its kernels took."""


def random_prompt(engine: Engine, length: int, seed: int) -> Ints:
    """Random token ids, int32 [length]."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, engine.traits.vocab_size, length).astype(np.int32)


@dataclass(frozen=True, slots=True)
class Step:
    """seconds: wall clock. tokens: that became final."""

    seconds: float
    tokens: int


def timed_step(engine: Engine) -> Step:
    """One step. Raises RuntimeError when a request ended in it with an error."""
    began = time.perf_counter()
    events = engine.step()
    seconds = time.perf_counter() - began
    for event in events:
        if event.error:
            raise RuntimeError(event.error)
    return Step(seconds, sum(len(event.token_ids) for event in events))


def prefill(engine: Engine, prompt: Ints) -> float:
    """Seconds until a lone request has its first token; then it is ended.

    Raises RuntimeError when a part of the prompt was found in the cache: that would be no measurement.
    """
    found = engine.metrics.num_cached_tokens
    began = time.perf_counter()
    request_id = engine.add(prompt, GREEDY)
    while timed_step(engine).tokens == 0:
        pass
    seconds = time.perf_counter() - began
    engine.cancel(request_id)
    if engine.metrics.num_cached_tokens != found:
        raise RuntimeError("a prompt that was to be measured begins like an earlier one")
    return seconds


def fill(engine: Engine, prompts: list[Ints], copies: int = 1) -> list[int]:
    """Start requests and step until every one decodes; returns their ids.

    copies: requests per prompt that share its cache. Raises UserError when not all can run at once.
    """
    params = SamplingParams(n=copies, temperature=0.0, max_tokens=None, ignore_eos=True)
    firsts = [engine.add(prompt, params) for prompt in prompts]
    ids = [first + copy for first in firsts for copy in range(copies)]
    waiting = set(ids)
    while waiting:
        waiting -= {event.request_id for event in engine.step() if event.token_ids}
    if len(engine.scheduler.running) < len(ids):
        raise UserError(f"{len(ids)} requests do not run at once", "fewer requests, or more memory")
    return ids


def decode(engine: Engine, batch: int, steps: int) -> list[float]:
    """Seconds of each of `steps` steps in which all `batch` running requests get one token."""
    seconds = []
    for _ in range(steps):
        step = timed_step(engine)
        if step.tokens != batch:
            raise RuntimeError(f"a step gave {step.tokens} tokens to {batch} requests")
        seconds.append(step.seconds)
    return seconds


WAYS = {
    "greedy": GREEDY,
    "top-k 40 and top-p 0.9": replace(GREEDY, temperature=0.8, top_k=40, top_p=0.9),
    "top-p 0.9": replace(GREEDY, temperature=0.8, top_p=0.9),
    "temperature 0.8": replace(GREEDY, temperature=0.8),
}
"""Of choosing a token, for `outside`."""


def outside(engine: Engine, context: int, steps: int, rounds: int = 3) -> dict[str, float]:
    """Share of a step in which one request decodes that is not spent in the model's kernels, by the way in which
    tokens are chosen: planning, sampling, events. Medians of `steps` steps in each of `rounds` rounds. Empty for an
    executor that does not measure its kernels."""
    if KERNELS not in engine.counters:
        return {}
    shares: dict[str, list[float]] = {way: [] for way in WAYS}
    for turn in range(rounds):
        for way, params in WAYS.items():
            request_id = engine.add(random_prompt(engine, context, turn), params)
            while timed_step(engine).tokens == 0:
                pass
            shares[way] += [_share_outside(engine) for _ in range(steps)]
            engine.cancel(request_id)
    return {way: median(found) for way, found in shares.items()}


def _share_outside(engine: Engine) -> float:
    """Of one step."""
    before = engine.counters[KERNELS]
    seconds = timed_step(engine).seconds
    return 1.0 - 1e-9 * (engine.counters[KERNELS] - before) / seconds


def end(engine: Engine, ids: list[int]) -> None:
    """End requests that `fill` began."""
    for request_id in ids:
        engine.cancel(request_id)
