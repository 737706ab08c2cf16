"""Soft inputs: windows that feed mixtures of token embeddings, turned into windows with embeddings."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Listing

import numpy as np

from plait.core.config import PAGE
from plait.core.params import SamplingParams
from plait.core.sequence import Sequence
from plait.core.step import StepInput
from plait.core.window import Floats, Ints, KVView, Window

Embed = Callable[[Ints], Floats]
"""Token ids int32 [n] -> the rows float32 [n, width] that the first layer gets for them."""


def soften(inputs: Listing[StepInput], embed: Embed) -> Listing[StepInput]:
    """The inputs, with `embeddings` in place of `soft`. Most steps have none and cost nothing."""
    if all(item.window.soft is None for item in inputs):
        return inputs
    return [item if item.window.soft is None else _soften(item, embed) for item in inputs]


def _soften(item: StepInput, embed: Embed) -> StepInput:
    window, soft = item.window, item.window.soft
    assert soft is not None
    fed = (
        item.sequence.tokens[window.start : window.end] if window.tokens is None else window.tokens
    )
    ids, where = np.unique(np.concatenate([fed, soft.tokens.ravel()]), return_inverse=True)
    table = embed(ids.astype(np.int32))
    rows = table[where[: len(fed)]]
    mixed = table[where[len(fed) :]].reshape(*soft.tokens.shape, -1)
    rows[soft.rows] += np.einsum("mk,mkd->md", soft.weights, mixed)
    return item._replace(window=window._replace(embeddings=rows, soft=None))


def as_window(tokens: Ints) -> StepInput:
    """Tokens as an input for the part of a model that touches no K/V."""
    sequence = Sequence(0, tokens, SamplingParams(), limit=len(tokens), seed=0)
    pages = np.zeros(-(-len(tokens) // PAGE), np.int32)
    return StepInput(sequence, Window(0, len(tokens)), KVView(pages))
