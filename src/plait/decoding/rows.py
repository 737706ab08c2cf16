"""What decoders share: choosing tokens for open rows and scoring rows, as a request's parameters ask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from plait.core.sequence import Sequence
from plait.core.traits import Traits
from plait.core.window import NO_INTS, NOTHING, Floats, Ints, TokenLogprobs, Update
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
) -> list[Update | Exception]:
    """For decoders that propose one token per open target: choose them all, score the targets that stand,
    and let `write` say which proposals become an update."""
    parts = [split(item) for item in items]
    asks = [ask(part, traits, want_confidence=want_confidence) for part in parts]
    return [
        _attempt(part, choices, write)
        for part, choices in zip(parts, sampling.answer(asks, threads), strict=True)
    ]


def _attempt(
    part: Rows, choices: sampling.Choices | FloatingPointError, write: Write
) -> Update | Exception:
    try:
        scored = _scored_logprobs(part) if len(part.scored) else {}
        if isinstance(choices, FloatingPointError):
            return choices
        update = write(part, choices) if len(part.targets) else NOTHING
        return replace(update, logprobs={**scored, **update.logprobs}) if scored else update
    except Exception as error:  # of this request alone
        return error


def _scored_logprobs(part: Rows) -> dict[int, TokenLogprobs]:
    """For tokens that stand on the canvas already, if the request wants `prompt_logprobs`; else empty."""
    tokens, count = part.seq.tokens[part.scored], part.seq.params.prompt_logprobs
    return _logprobs(part.scored_logits, part.scored, tokens, count)


def ask(part: Rows, traits: Traits, *, want_confidence: bool = False) -> sampling.Ask:
    """One token per open row.

    The mask token is never chosen, and no stop token at a position before min_tokens.
    """
    seq, params = part.seq, part.seq.params
    earliest_stop = seq.prompt_length + params.min_tokens
    num_held = int(np.searchsorted(part.targets, earliest_stop)) if params.min_tokens else 0
    stops = sorted(params.stop_ids(traits.eos_ids)) if num_held else []
    return sampling.ask(
        part.logits,
        params,
        positions=part.targets,
        seed=seq.seed,
        history=seq.tokens[~seq.masked] if params.has_penalties else NO_INTS,
        num_prompt=seq.prompt_length,
        forbidden=NO_INTS if traits.mask_token is None else np.array([traits.mask_token], np.int32),
        held=np.array([i for i in stops if i < traits.vocab_size], np.int32) if stops else NO_INTS,
        num_held=num_held,
        want_confidence=want_confidence,
    )


def best_needed(seq: Sequence, targets: Ints, traits: Traits) -> int:
    """How many of a row's best logits a choice can tell from all of them, for any of these positions and
    without confidence; 0: all of them."""
    params = seq.params
    wants_all = params.logprobs is not None or params.prompt_logprobs is not None
    if wants_all or params.has_penalties or params.logit_bias:
        return 0
    count = 1 if params.is_greedy else params.top_k
    if count < 1:
        return 0
    # What may not be chosen can be among the best, and then the next one counts.
    is_held = len(targets) and targets[0] < seq.prompt_length + params.min_tokens
    held = len(params.stop_ids(traits.eos_ids)) if is_held else 0
    return count + held + (traits.mask_token is not None)


def written_logprobs(
    logits: Floats, seq: Sequence, targets: Ints, tokens: Ints
) -> dict[int, TokenLogprobs]:
    """For tokens about to be written, if the request wants `logprobs`; else empty."""
    return _logprobs(logits, targets, tokens, seq.params.logprobs)


def _logprobs(
    logits: Floats, targets: Ints, tokens: Ints, count: int | None
) -> dict[int, TokenLogprobs]:
    if count is None or not len(targets):
        return {}
    return dict(zip(targets.tolist(), sampling.token_logprobs(logits, tokens, count), strict=True))
