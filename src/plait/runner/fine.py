"""Which blocks of activations the int8 path keeps twice as fine.

Rounding to int8 is coarse where a block of activations holds a large one, and in a transformer the large
ones sit in the same few channels whatever the text (arXiv:2208.07339 section 3). So each linear op's input is
watched once, at load, over a few tokens, and the blocks with the largest scales get a second int8 plane for
what the first left over. The choice is part of the model from then on: it depends on no request.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from plait.core.config import PAGE
from plait.core.params import SamplingParams
from plait.core.sequence import Sequence
from plait.core.step import StepInput
from plait.core.window import Floats, Ints, KVView, Window

LOUD = 3.0
"""A block of a layer's linear op is fine when its energy is more than so many times the mean. Measured on SmolLM2
(benchmarks/accuracy.py): without fine blocks the best token differs from float's at 3.8 % of positions, with
these at 1.8 %. They are 3 to 5 % of the blocks; twice as many change that by less than 0.1 %."""

MOST = 0.3
"""Of the blocks of a layer's linear op."""

HEAD_SHARE = 0.25
"""Of the blocks before the vocabulary: noise there goes straight into the logits."""


def probe(page: int, vocab_size: int) -> StepInput:
    """One page of tokens spread over the vocabulary, every logit wanted."""
    tokens = ((7919 * np.arange(PAGE, dtype=np.int64) + 31) % vocab_size).astype(np.int32)
    sequence = Sequence(0, tokens, SamplingParams(), limit=PAGE, seed=0)
    window = Window(0, PAGE, rows=np.arange(PAGE, dtype=np.int32))
    return StepInput(sequence, window, KVView(np.array([page], np.int32)))


def energy(scales: Floats) -> Floats:
    """Sum of squared scales per block of 32 columns, [K / 32]; scales: float32 [M, K / 16]."""
    return np.asarray((scales**2).sum(axis=0).reshape(-1, 2).sum(axis=1))


def choose(energy: ArrayLike, *, is_head: bool) -> Ints:
    """The blocks to keep fine, int32, ascending; energy: sum of squared scales per block."""
    values = np.asarray(energy, np.float32)
    if is_head:
        count = max(1, round(len(values) * HEAD_SHARE))
    else:
        loud = int(np.count_nonzero(values > LOUD * values.mean()))
        count = min(loud, int(len(values) * MOST))
    best = np.argsort(-values, kind="stable")[:count]
    return np.sort(best).astype(np.int32)
