"""How probable a given answer is to a masked model: two estimates, each a sum of masked forwards.

A masked model gives no likelihood in one forward, but bounds of it (arXiv:2502.09992), for an answer of A tokens:

    Monte Carlo   A / l times the sum of log p of l masked tokens, l and which ones at random
    any order     the tokens in a random order, each given the prompt and those before it in the order

Both have the same expectation, a lower bound of log p(answer | prompt) for a model that was trained on it. The first
takes one forward per sample, the second A, and varies less. Monte Carlo draws l stratified over 1 ... A.

A block-causal model sees no later block, so the answer is taken apart into its blocks, each given those before.
"""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from plait.core.errors import UserError
from plait.core.params import SamplingParams
from plait.core.sequence import Event
from plait.core.traits import Traits
from plait.core.window import PatternKind, TokenLogprobs
from plait.engine.worker import Worker

METHODS = ("monte_carlo", "any_order")


class Likelihood(NamedTuple):
    """mean: estimate of log p(answer | prompt) in nats. error: its standard error, NaN for a single sample.
    num_forwards: requests that it took."""

    mean: float
    error: float
    num_forwards: int


class _Term(NamedTuple):
    """One forward: positions of `canvas` to mask, those that count, their weight, and for which sample."""

    canvas: list[int]
    masked: list[int]
    counted: list[int]
    weight: float
    sample: int


def likelihood(
    worker: Worker,
    prompt: Sequence[int],
    answer: Sequence[int],
    *,
    method: str = "monte_carlo",
    samples: int = 128,
    seed: int = 0,
) -> Likelihood:
    """Token ids; both with at least one. Raises UserError for a model without a mask token, a method that is
    not known or too long a canvas, RuntimeError when a forward fails."""
    if method not in METHODS:
        raise UserError(f"method={method!r} is not known", f"one of: {', '.join(METHODS)}")
    if samples < 1:
        raise UserError(f"samples={samples} is out of range", "1 or more")
    if not len(prompt) or not len(answer):
        raise UserError("prompt or answer is empty", "at least one token each")
    rng = np.random.default_rng(seed)
    terms = [
        term
        for canvas, places in _pieces(worker.engine.traits, [*prompt, *answer], len(prompt))
        for term in _terms(method, canvas, places, samples, rng)
    ]
    totals = np.zeros(samples)
    for term, value in _values(worker, terms):
        totals[term.sample] += term.weight * value
    error = float(totals.std(ddof=1) / samples**0.5) if samples > 1 else float("nan")
    return Likelihood(float(totals.mean()), error, len(terms))


def _pieces(traits: Traits, canvas: list[int], start: int) -> Iterator[tuple[list[int], list[int]]]:
    """(canvas as far as it is seen, positions of the answer in its last part), block by block."""
    is_block = traits.pattern.kind is PatternKind.BLOCK
    size = traits.pattern.size if is_block else len(canvas)
    while start < len(canvas):
        end = min(len(canvas), (start // size + 1) * size)
        yield canvas[:end], list(range(start, end))
        start = end


def _terms(
    method: str, canvas: list[int], places: list[int], samples: int, rng: np.random.Generator
) -> Iterator[_Term]:
    count = len(places)
    first = int(rng.integers(count))
    for sample in range(samples):
        order = rng.permutation(places).tolist()
        if method == "any_order":
            for i in range(count):
                yield _Term(canvas, sorted(order[i:]), [order[i]], 1.0, sample)
        else:
            size = (first + sample * count // samples) % count + 1
            masked = sorted(order[:size])
            yield _Term(canvas, masked, masked, count / size, sample)


def _values(worker: Worker, terms: list[_Term]) -> Iterator[tuple[_Term, float]]:
    """Every term with the sum of the log-probabilities that count, as they come."""
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    running: dict[int, _Term] = {}
    try:
        for term in terms:
            params = SamplingParams(max_tokens=0, prompt_logprobs=0, infill=_spans(term.masked))
            (key,) = worker.submit(term.canvas, params, events.put, planner="score")
            running[key] = term
        while running:
            event = events.get()
            term = running.pop(event.request_id)
            if event.prompt_logprobs is None:
                raise RuntimeError(event.error or f"a forward ended early: {event.finish_reason}")
            yield term, sum(_scored(event.prompt_logprobs[p]) for p in term.counted)
    finally:
        for key in running:
            worker.cancel(key)


def _scored(entry: TokenLogprobs | None) -> float:
    assert entry is not None, "a masked position was not scored"
    return entry.token


def _spans(positions: list[int]) -> list[tuple[int, int]]:
    """Ascending positions as stretches."""
    array: NDArray[np.int64] = np.array(positions)
    firsts = np.flatnonzero(np.diff(array, prepend=-2) > 1)
    ends = np.append(firsts[1:], len(array)) - 1
    return [(int(array[a]), int(array[b]) + 1) for a, b in zip(firsts, ends, strict=True)]
