"""Deciding the rows of a block by a grammar: from left to right, so that what is written can always be completed.

The places of a block are computed together, but which tokens may stand at one depends on those before it. A grammar
can tell exactly what may follow a beginning; what may stand between holes it cannot. So only the beginning of a
block is ever written: its first open place always, then one after the other for as long as each is sure of its token,
among those that the grammar lets follow. A place with a single possible token is sure.
"""

from __future__ import annotations

import numpy as np

from plait.core.errors import UserError
from plait.core.traits import Traits
from plait.core.window import Update
from plait.decoding import rows
from plait.decoding.base import Item, Rows, Walk, split
from plait.kernels import sampling

_WORD_BITS = 32


def decide(item: Item, traits: Traits, threshold: float) -> Update | Exception:
    """threshold: of the confidence, a probability among the tokens that may come."""
    part, walk = split(item), item.walk
    assert walk is not None
    tokens: list[int] = []
    try:
        for place in range(len(part.targets)):
            if part.targets.item(place) != part.targets.item(0) + place or walk.is_finished:
                break
            token, confidence = _choose(part, place, walk, traits)
            if tokens and confidence < threshold:
                break
            if not walk.advance(token):
                raise UserError("the grammar wants letters that the model's tokenizer cannot spell")
            tokens.append(token)
    except Exception as error:  # of this request alone
        return error
    finally:
        walk.rollback(len(tokens))
    targets = part.targets[: len(tokens)]
    written = np.array(tokens, np.int32)
    logprobs = rows.written_logprobs(part.logits[: len(tokens)], part.seq, targets, written)
    return Update(targets, written, logprobs=logprobs)


def _choose(part: Rows, place: int, walk: Walk, traits: Traits) -> tuple[int, float]:
    """Raises FloatingPointError."""
    mask = np.empty((1, -(-traits.vocab_size // _WORD_BITS)), np.uint32)
    walk.fill(mask[0])
    one = slice(place, place + 1)
    row = part._replace(logits=part.logits[one], targets=part.targets[one], masks=mask)
    (choices,) = sampling.answer([rows.ask(row, traits, want_confidence=True)])
    if isinstance(choices, FloatingPointError):
        raise choices
    return choices.tokens.item(0), choices.confidence.item(0)
