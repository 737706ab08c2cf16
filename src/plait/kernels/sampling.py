"""Choosing tokens from rows of logits: the typed surface over the native ops of csrc/include/plait/sample.h.

Logits are float32 [rows, vocab_size], C-contiguous, and are never modified. A row's result depends on the
row, the parameters, the history, the seed and its position; never on the other rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from plait import _C
from plait.core.params import SamplingParams
from plait.core.window import Floats, Ints, Masks, TokenLogprobs
from plait.kernels.plan import Pool

Sampler = _C.Sampler

Choices = _C.SampleRows
"""Of the rows of one request; what `ask` made, `answer` fills in. tokens: int32 [rows]. confidence: float64 [rows], to
be read only where it was asked for. positions: int32 [rows], that they are for."""


def uniform(seed: int, position: int) -> float:
    """The random number of (seed, position), both 64 bits: in [0, 1), a multiple of 2^-53 (Philox4x32-10)."""
    return float(_C.uniform(seed, position))


def sampler(
    params: SamplingParams, *, seed: int, forbidden: Iterable[int] = (), held: Iterable[int] = ()
) -> Sampler:
    """What is the same for all rows of a request (the order of the processors is in decoding/sample.py).

    forbidden: ids never chosen. held: ids that rows before `min_tokens` may not choose either.
    """
    return _C.Sampler(
        seed=seed,
        temperature=params.temperature,
        top_k=params.top_k,
        top_p=params.top_p,
        min_p=params.min_p,
        typical_p=params.typical_p,
        repetition_penalty=params.repetition_penalty,
        presence_penalty=params.presence_penalty,
        frequency_penalty=params.frequency_penalty,
        bias_ids=list(params.logit_bias),
        bias=list(params.logit_bias.values()),
        forbidden=list(forbidden),
        held=list(held),
    )


def ask(
    sampler: Sampler,
    logits: Floats,
    positions: Ints,
    *,
    history: Ints | None = None,
    num_prompt: int = 0,
    num_held: int = 0,
    want_confidence: bool = False,
    masks: Masks | None = None,
) -> Choices:
    """One token per row, once `answer` has been called.

    positions: canvas position of each row's choice. history: decided tokens, of which the first num_prompt
    are the prompt; read only where there are penalties. num_held: of how many rows, the first ones, the
    choice may not be a held id. masks: what each row may choose; None: everything. confidence: probability of the choice at temperature 1, after bias and
    penalties and before the filters.
    """
    tokens = np.empty(len(positions), np.int32)
    confidence = np.empty(len(positions), np.float64) if want_confidence else None
    return Choices(
        sampler, logits, positions, tokens, confidence, history, num_prompt, num_held, masks
    )


def answer(asks: list[Choices], threads: Pool | None = None) -> list[Choices | FloatingPointError]:
    """What was asked, all rows shared out to the threads; an error for NaN, +inf, or rows where every id is
    impossible, of its own request alone."""
    if _C.sample(asks, threads):
        return [*asks]
    return [_bad_row(each.tokens, each.positions) or each for each in asks]


def sample(
    logits: Floats,
    params: SamplingParams,
    *,
    positions: Ints,
    seed: int,
    forbidden: Iterable[int] = (),
    held: Iterable[int] = (),
    **of_ask: Any,
) -> Choices:
    """`sampler`, `ask` and `answer` for one request. Raises FloatingPointError."""
    own = sampler(params, seed=seed, forbidden=forbidden, held=held)
    (result,) = answer([ask(own, logits, positions, **of_ask)])
    if isinstance(result, FloatingPointError):
        raise result
    return result


def token_logprobs(logits: Floats, tokens: Ints, count: int) -> list[TokenLogprobs]:
    """Raw log-probabilities (float64 sums) of tokens[i] in row i, with the `count` best alternatives.

    Raises FloatingPointError like `sample`.
    """
    rows, width = len(logits), min(count, logits.shape[1])
    own, ranks = np.empty(rows, np.float64), np.empty(rows, np.int32)
    top, top_logprobs = np.empty((rows, width), np.int32), np.empty((rows, width), np.float64)
    tokens = np.ascontiguousarray(tokens, np.int32)
    _C.logprobs(np.ascontiguousarray(logits), tokens, own, ranks, top, top_logprobs)
    if error := _bad_row(ranks, np.arange(rows, dtype=np.int32)):
        raise error
    return [
        TokenLogprobs(value, rank, dict(zip(ids, values, strict=True)))
        for value, rank, ids, values in zip(
            own.tolist(), ranks.tolist(), top.tolist(), top_logprobs.tolist(), strict=True
        )
    ]


def _bad_row(codes: Ints, positions: Ints) -> FloatingPointError | None:
    """codes: -1 for a row that is not a number, -2 for one where nothing is possible."""
    if min(codes.tolist(), default=0) >= 0:
        return None
    for code, meaning in ((-1, "hold NaN or +inf"), (-2, "leave no token possible")):
        bad = np.flatnonzero(codes == code)
        if len(bad):
            return FloatingPointError(f"the logits for position {positions[bad[0]]} {meaning}")
    return None
