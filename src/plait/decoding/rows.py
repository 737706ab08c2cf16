"""What decoders share: choosing tokens for open rows and scoring rows, as a request's parameters ask."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from plait.core.params import SamplingParams
from plait.core.places import WITNESS
from plait.core.sequence import Sequence
from plait.core.traits import Traits
from plait.core.window import NO_INTS, NOTHING, Floats, Ints, Masks, TokenLogprobs, Update
from plait.decoding import guided
from plait.decoding.base import Item, Rows, split
from plait.kernels import sampling
from plait.kernels.plan import Pool

Write = Callable[[Rows, sampling.Choices], Update]


def decide_all(
    items: list[Item],
    traits: Traits,
    threads: Pool | None,
    write: Write,
    *,
    want_confidence: bool = False,
    edits: bool = False,
) -> list[Update | Exception]:
    """For decoders that propose one token per open target: choose them all, score the targets that stand,
    and let `write` say which proposals become an update. edits: as for `split`."""
    parts, asks = [], []
    for item in items:
        part = split(item, edits=edits)
        parts.append(part)
        if item.guide is None:
            asks.append(ask(part, traits, want_confidence=want_confidence))
    answers = iter(sampling.answer(asks, threads))
    updates: list[Update | Exception] = []
    for item, part in zip(items, parts, strict=True):
        try:
            if item.guide is not None:
                updates.append(_guided(item, part, traits, write))
            else:
                updates.append(_update(part, next(answers), write))
        except Exception as error:  # of this request alone
            updates.append(error)
    return updates


def _guided(item: Item, part: Rows, traits: Traits, write: Write) -> Update:
    """Of what fits a grammar (guided.py)."""
    if not len(part.targets):
        return NOTHING
    asked = partial(ask, traits=traits, want_confidence=True)
    part, choices, witness = guided.propose(item, part, asked)
    update = write(part, choices)
    return update._replace(memory={**update.memory, WITNESS: witness})


def _update(part: Rows, choices: sampling.Choices | FloatingPointError, write: Write) -> Update:
    scored = scored_logprobs(part) if len(part.scored) else {}
    if isinstance(choices, FloatingPointError):
        raise choices
    update = write(part, choices) if len(part.targets) else NOTHING
    return update._replace(logprobs={**scored, **update.logprobs}) if scored else update


def scored_logprobs(part: Rows) -> dict[int, TokenLogprobs]:
    """For tokens that stand on the canvas already, if the request wants `prompt_logprobs`; else empty."""
    tokens, count = part.seq.tokens[part.scored], part.seq.params.prompt_logprobs
    return _logprobs(part.scored_logits, part.scored, tokens, count)


class _Prepared(NamedTuple):
    """What follows from a request's parameters and seed alone.

    best: how many of a row's best logits a choice needs, 0: all. num_held, earliest_stop: how many stop
    tokens may not be chosen at positions before this one.
    """

    sampler: sampling.Sampler
    has_penalties: bool
    best: int
    num_held: int
    earliest_stop: int


def _prepared(seq: Sequence, traits: Traits) -> _Prepared:
    """Left in the memo. The mask token is never chosen, and no stop token at a position before min_tokens."""
    params = seq.params
    stops = sorted(params.stop_ids(traits.eos_ids)) if params.min_tokens else []
    held = [i for i in stops if i < traits.vocab_size]
    mask = () if traits.mask_token is None else (traits.mask_token,)
    seq.memo["sampling"] = own = _Prepared(
        sampling.sampler(params, seed=seq.seed, forbidden=mask, held=held),
        params.has_penalties,
        _best(params, len(mask)),
        len(held),
        seq.prompt_length + params.min_tokens,
    )
    return own


def _best(params: SamplingParams, num_forbidden: int) -> int:
    wants_all = params.logprobs is not None or params.prompt_logprobs is not None
    if wants_all or params.has_penalties or params.logit_bias:
        return 0
    count = 1 if params.is_greedy else params.top_k
    # What may not be chosen can be among the best, and then the next one counts.
    return count + num_forbidden if count > 0 else 0


def ask(
    part: Rows, traits: Traits, *, want_confidence: bool = False, drafted: Ints = NO_INTS
) -> sampling.Choices:
    """One token per open row. drafted: tokens that come before it without being on the canvas."""
    seq = part.seq
    own: _Prepared = seq.memo.get("sampling") or _prepared(seq, traits)
    history = seq.tokens[~seq.masked] if own.has_penalties else None
    if history is not None and len(drafted):
        history = np.concatenate([history, drafted])
    return sampling.ask(
        own.sampler,
        part.logits,
        part.targets,
        history=history,
        num_prompt=seq.prompt_length,
        num_held=int(np.searchsorted(part.targets, own.earliest_stop)) if own.num_held else 0,
        want_confidence=want_confidence,
        masks=part.masks,
    )


def best_needed(seq: Sequence, targets: Ints, traits: Traits) -> int:
    """How many of a row's best logits a choice can tell from all of them, for any of these positions and
    without confidence; 0: all of them."""
    own: _Prepared = seq.memo.get("sampling") or _prepared(seq, traits)
    is_held = own.best and own.num_held and len(targets) and targets[0] < own.earliest_stop
    return own.best + own.num_held if is_held else own.best


def written(part: Rows, choices: sampling.Choices, chosen: NDArray[np.bool_]) -> Update:
    """The update that writes the proposals for some of the open targets, bool [rows]."""
    targets, tokens = part.targets[chosen], choices.tokens[chosen]
    masks = None if part.masks is None else part.masks[chosen]
    logprobs = written_logprobs(part.logits[chosen], part.seq, targets, tokens, masks)
    return Update(targets, tokens, logprobs=logprobs)


def written_logprobs(
    logits: Floats, seq: Sequence, targets: Ints, tokens: Ints, masks: Masks | None = None
) -> dict[int, TokenLogprobs]:
    """For tokens about to be written, if the request wants `logprobs`; else empty. masks: what they were chosen from;
    then only such tokens are among the alternatives."""
    return _logprobs(logits, targets, tokens, seq.params.logprobs, masks)


def _logprobs(
    logits: Floats,
    targets: Ints,
    tokens: Ints,
    count: int | None,
    masks: Masks | None = None,
) -> dict[int, TokenLogprobs]:
    if count is None or not len(targets):
        return {}
    found = sampling.token_logprobs(logits, tokens, count)
    if masks is not None and count:
        found = _allowed_only(found, logits, tokens, count, masks)
    return dict(zip(targets.tolist(), found, strict=True))


def _allowed_only(
    found: list[TokenLogprobs], logits: Floats, tokens: Ints, count: int, masks: Masks
) -> list[TokenLogprobs]:
    """The same with the best alternatives that a mask lets through; the numbers stay those of the model."""
    is_allowed = np.unpackbits(masks.view(np.uint8), axis=1, bitorder="little")
    own = np.where(is_allowed[:, : logits.shape[1]], logits, -np.inf).astype(np.float32)
    return [
        replace(one, top=_shifted(other.top, one.token - other.token))
        for one, other in zip(found, sampling.token_logprobs(own, tokens, count), strict=True)
    ]


def _shifted(top: Mapping[int, float], by: float) -> dict[int, float]:
    return {token: value + by for token, value in top.items() if value > -np.inf}
