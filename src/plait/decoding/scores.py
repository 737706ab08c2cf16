"""How good a moment it is to decide a position: numbers per open row, and random ones for choices among rows."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from plait.core.sequence import Sequence
from plait.core.traits import Traits
from plait.core.window import Floats
from plait.decoding.base import Rows
from plait.kernels import sampling

Doubles = NDArray[np.float64]

_ORDER = 0x6A09E667F3BCC908
"""Keeps the random numbers of choices among positions apart from those of tokens."""


def distributions(logits: Floats, traits: Traits) -> Floats:
    """The model's own distribution of every row at temperature 1, without the mask token."""
    with np.errstate(invalid="ignore"):  # what is no number is found by whoever chooses tokens
        shifted = logits - logits.max(axis=1, keepdims=True)
    weights = np.exp(shifted, out=shifted)
    if traits.mask_token is not None:
        weights[:, traits.mask_token] = 0.0
    totals = weights.sum(axis=1, keepdims=True, dtype=np.float64)
    weights /= np.maximum(totals, np.finfo(np.float64).tiny)
    return np.asarray(weights, np.float32)


def margins(logits: Floats, traits: Traits) -> Doubles:
    """Probability of the best token minus that of the second."""
    shares = distributions(logits, traits)
    if shares.shape[1] < 2:
        return np.ones(len(shares))
    second, first = np.partition(shares, -2, axis=1)[:, -2:].astype(np.float64).T
    return np.asarray(first - second)


def entropies(logits: Floats, traits: Traits) -> Doubles:
    """In nats."""
    shares = distributions(logits, traits)
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    return -np.asarray((shares * logs).sum(axis=1, dtype=np.float64))


def uniforms(seq: Sequence, positions: Iterable[int], turn: int) -> Doubles:
    """Random numbers in [0, 1) of (seed, position, turn), for choices among positions."""
    seed = (seq.seed ^ _ORDER) % 2**64
    return np.array([sampling.uniform(seed, turn << 32 | int(p)) for p in positions])


def opened(part: Rows) -> int:
    """How many positions were open when the block began."""
    return max(int(part.seq.scratch.get("opened", 0)), len(part.targets))
