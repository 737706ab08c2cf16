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
    for item in inputs:
        if item.window.soft is not None:
            break
    else:
        return inputs
    return [item if item.window.soft is None else _soften(item, embed) for item in inputs]


def _soften(item: StepInput, embed: Embed) -> StepInput:
    window, soft = item.window, item.window.soft
    assert soft is not None
    fed = (
        item.sequence.tokens[window.start : window.end] if window.tokens is None else window.tokens
    )
    rows = embed(fed)
    for column in range(soft.tokens.shape[1]):  # never all of them at once: that may be much
        tokens = np.ascontiguousarray(soft.tokens[:, column])
        rows[soft.rows] += soft.weights[:, column, None] * embed(tokens)
    return item._replace(window=window._replace(embeddings=rows, soft=None))


def as_window(tokens: Ints) -> StepInput:
    """Tokens as an input for the part of a model that touches no K/V."""
    sequence = Sequence(0, tokens, SamplingParams(), limit=len(tokens), seed=0)
    pages = np.zeros(-(-len(tokens) // PAGE), np.int32)
    return StepInput(sequence, Window(0, len(tokens)), KVView(pages))
