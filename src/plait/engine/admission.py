"""What must hold before a request enters the engine."""

from __future__ import annotations

import hashlib
import math
import os
import reprlib
import struct
from collections.abc import Mapping
from collections.abc import Sequence as Listing
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plait.core.errors import ContextLengthError, UserError
from plait.core.params import SamplingParams
from plait.core.sequence import Sequence
from plait.core.traits import Traits
from plait.core.window import Ints, Pattern

LONGEST_SALT = 256
LONGEST_NAME = 64
LONGEST_OPTION = 4096
"""Characters; among the options are prompts."""
LONGEST_TENANT = 256


def checked_prompt(prompt: Listing[int] | Ints, params: SamplingParams, traits: Traits) -> Ints:
    """The prompt as int32 [n]. Raises UserError for ids the model does not have, or too many of them."""
    if not len(prompt):
        raise UserError("the prompt is empty", "at least one token is needed")
    try:
        ids: NDArray[np.int64] = np.asarray(prompt)
    except ValueError:  # lists of different lengths inside
        ids = np.zeros((0, 0), np.int64)
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise UserError("the prompt holds something that is no token id", "a list of whole numbers")
    _in_vocabulary("the prompt", ids, traits)
    if params.infill and params.infill[-1][1] > len(ids):
        raise UserError(
            f"infill ends at {params.infill[-1][1]}, but the prompt has {len(ids)} tokens",
            "stretches inside the prompt",
        )
    _in_vocabulary("logit_bias", np.array([*params.logit_bias], np.int64), traits)
    is_whole = params.max_tokens == 0 or params.infill
    room = traits.context_length if is_whole else traits.context_length - 1
    if len(ids) > room:
        raise ContextLengthError(
            f"the prompt has {len(ids)} tokens, but the context holds {traits.context_length}",
            "shorten the prompt (or raise max_model_len, if it was lowered)",
        )
    return ids.astype(np.int32)


def checked_start(
    ids: Ints,
    params: SamplingParams,
    can_begin: bool,
    answered: int,
    score_from: int,
) -> list[int]:
    """The tokens of a prompt, int32 [n], that belong to the answer. can_begin: whether its planner and decoder can go on
    with them. Raises UserError for numbers that fit neither these nor each other."""
    most = 0 if params.infill else len(ids) - 1
    for name, value, low, high in (
        ("answered", answered, 0, most),
        ("score_from", score_from, 1, max(1, len(ids))),
    ):
        if type(value) is not int or not low <= value <= high:
            raise UserError(f"{name}={value!r} is out of range", f"from {low} to {high}")
    if score_from > 1 and (params.prompt_logprobs is None or params.infill):
        raise UserError("score_from has a meaning for prompt_logprobs only", "leave it out")
    if answered and not can_begin:
        raise UserError(
            "answered needs a model that writes left to right, one token after the other",
            "the planner 'autoregressive' or 'speculative', and a decoder that contrasts nothing",
        )
    if answered and params.prompt_logprobs is not None:
        raise UserError("answered has no meaning with prompt_logprobs", "leave one out")
    asked = params.structured_outputs
    start, end = len(ids) - answered, len(ids)
    if params.infill and asked is not None:
        end = params.infill[0][0]
        start = end if asked.begins_at is None else asked.begins_at
    begun: list[int] = ids[start:end].tolist()
    return begun


def checked_options(options: Mapping[str, str] | None) -> Mapping[str, str]:
    """Raises UserError for what is no mapping from names to texts, or a large one."""
    given = {} if options is None else options
    if not isinstance(given, Mapping) or not all(
        isinstance(text, str) and len(text) <= most
        for item in given.items()
        for text, most in zip(item, (LONGEST_NAME, LONGEST_OPTION), strict=True)
    ):
        raise UserError(
            "options must hold names and values",
            f"texts of at most {LONGEST_NAME} and {LONGEST_OPTION} characters",
        )
    return given


def checked_priority(priority: int) -> int:
    """Raises UserError for what cannot be compared with the priorities of other requests."""
    if not isinstance(priority, int):
        raise UserError(f"priority={priority!r} is not a whole number", "lower goes first")
    return priority


def checked_salt(salt: str) -> str:
    """Raises UserError for what is no short text."""
    if not isinstance(salt, str) or len(salt) > LONGEST_SALT:
        raise UserError(
            "cache_salt is not what it should be", f"text of at most {LONGEST_SALT} characters"
        )
    return salt


def salted(salt: str, pattern: Pattern) -> str:
    """What prefixes are shared by: read with another attention the same tokens leave other K/V."""
    return f"{pattern.kind.name} {pattern.size}\0{salt}"


def checked_tenant(tenant: str) -> str:
    """Raises UserError for what is no name, or a long one: it is kept while its requests run."""
    if not isinstance(tenant, str) or len(tenant) > LONGEST_TENANT:
        raise UserError(
            f"tenant={reprlib.repr(tenant)} is no name of a tenant",
            f"text of at most {LONGEST_TENANT} characters",
        )
    return tenant


def checked_deadline(seconds: float | None) -> float | None:
    """Raises UserError for what is no time span."""
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if seconds is not None and not (is_number and 0 < seconds < math.inf):
        raise UserError(f"deadline={seconds!r} is out of range", "a number of seconds above 0")
    return seconds


def seeds(params: SamplingParams) -> list[int]:
    """One 64-bit seed per choice, all derived from the request's; drawn from the system if it has none."""
    seed = int.from_bytes(os.urandom(8), "little") if params.seed is None else params.seed % 2**64
    return [derived_seed(seed, index) for index in range(params.n)]


def sequences(first: int, ids: Ints, params: SamplingParams, **own: Any) -> list[Sequence]:
    """The canvas of every choice, with ids from `first` on. own: for all of them."""
    each = enumerate(seeds(params), first)
    return [Sequence(key, ids, params, seed=seed, **own) for key, seed in each]


def derived_seed(seed: int, index: int) -> int:
    """The seed of choice `index`: the request's own for choice 0, else BLAKE2b of (seed, index)."""
    if index == 0:
        return seed
    digest = hashlib.blake2b(struct.pack("<QQ", seed, index), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _in_vocabulary(what: str, ids: NDArray[np.int64], traits: Traits) -> None:
    wrong = ids[(ids < 0) | (ids >= traits.vocab_size)]
    if len(wrong):
        raise UserError(
            f"{what} holds token id {wrong[0]}, which the model does not have",
            f"ids must lie in [0, {traits.vocab_size})",
        )
