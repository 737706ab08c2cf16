"""What decoders share: choosing tokens for open rows and scoring rows, as a request's parameters ask."""

from __future__ import annotations

import numpy as np

from plait.core.sequence import Sequence
from plait.core.traits import Traits
from plait.core.window import NO_INTS, Floats, Ints, TokenLogprobs
from plait.kernels import sampling


def choose(
    logits: Floats, seq: Sequence, targets: Ints, traits: Traits, *, want_confidence: bool = False
) -> sampling.Choices:
    """One token per row for the open canvas positions `targets` (ascending).

    The mask token is never chosen, and no stop token at a position before min_tokens.
    """
    params = seq.params
    earliest_stop = seq.prompt_length + params.min_tokens
    num_held = int(np.searchsorted(targets, earliest_stop))
    stops = sorted(params.stop_ids(traits.eos_ids)) if num_held else []
    return sampling.sample(
        logits,
        params,
        positions=targets,
        seed=seq.seed,
        history=seq.tokens[~seq.masked] if params.has_penalties else NO_INTS,
        num_prompt=seq.prompt_length,
        forbidden=NO_INTS if traits.mask_token is None else np.array([traits.mask_token], np.int32),
        held=np.array([i for i in stops if i < traits.vocab_size], np.int32),
        num_held=num_held,
        want_confidence=want_confidence,
    )


def best_needed(seq: Sequence, targets: Ints, traits: Traits) -> int:
    """How many of a row's best logits `choose` can tell from all of them, for any of these positions and
    without confidence; 0: it needs all."""
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


def scored_logprobs(logits: Floats, seq: Sequence, targets: Ints) -> dict[int, TokenLogprobs]:
    """For tokens that stand on the canvas already, if the request wants `prompt_logprobs`; else empty."""
    return _logprobs(logits, targets, seq.tokens[targets], seq.params.prompt_logprobs)


def _logprobs(
    logits: Floats, targets: Ints, tokens: Ints, count: int | None
) -> dict[int, TokenLogprobs]:
    if count is None or not len(targets):
        return {}
    return dict(zip(targets.tolist(), sampling.token_logprobs(logits, tokens, count), strict=True))
