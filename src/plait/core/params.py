"""SamplingParams: what a request may ask of the decoder, with vLLM's names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from plait.core.errors import UserError
from plait.core.structured import StructuredOutputs

MAX_LOGPROBS = 1024
MAX_STOPS = 64
MAX_TOKEN_ID = 2**31 - 1


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Every field is honoured or refused; the order of the processors is that of `decoding/sample.py`.

    max_tokens: None means up to the context length; 0 is allowed with prompt_logprobs (scoring only).
    seed: None draws one from the operating system.
    temperature 0 is greedy. top_k 0 (or -1), top_p 1, min_p 0, typical_p 1 switch a filter off.
    logprobs: how many alternatives to return with each token; None for no log-probabilities at all.
    prompt_logprobs: the same for the tokens of the prompt.
    infill: stretches [start, end) of the prompt to be filled in, whatever stands there; ascending, apart, and
        behind the first token. The answer is the text from the first of them to the end of the prompt: what
        was given comes back as it stands. No stop token ends it, and max_tokens does not count.
    structured_outputs: what the answer has to look like. It ends where nothing may follow, or at the model's own
        end where it may; finish_reason "length" means that it had to end before.
    stop, stop_token_ids, logit_bias: None is the same as nothing.
    Raises UserError for a value of the wrong type or out of range.
    """

    n: int = 1
    max_tokens: int | None = 16
    min_tokens: int = 0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    stop: Sequence[str] = ()
    stop_token_ids: Sequence[int] = ()
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    skip_special_tokens: bool = True
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    infill: Sequence[tuple[int, int]] = ()
    structured_outputs: StructuredOutputs | None = None

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", (self.stop,))
        for name, nothing in (("stop", ()), ("stop_token_ids", ()), ("logit_bias", {})):
            if getattr(self, name) is None:
                object.__setattr__(self, name, nothing)
        self._check_numbers()
        self._check_collections()
        if self.infill:
            self._check_infill()
        if self.structured_outputs is not None:
            self._check_structured()

    @property
    def is_greedy(self) -> bool:
        return self.temperature == 0.0

    @property
    def has_penalties(self) -> bool:
        """Whether a choice depends on the tokens before it by more than the model."""
        return (self.repetition_penalty, self.presence_penalty, self.frequency_penalty) != (1, 0, 0)

    def stop_ids(self, eos_ids: frozenset[int]) -> frozenset[int]:
        """Every token id that ends this request, given those of the model."""
        if self.infill:
            return frozenset()
        own = frozenset(self.stop_token_ids)
        return own if self.ignore_eos else own | eos_ids

    def _check_numbers(self) -> None:
        _whole("n", self.n, 1, 1024)
        if self.max_tokens is not None:
            fewest = 1 if self.prompt_logprobs is None else 0
            _whole("max_tokens", self.max_tokens, fewest, 2**31 - 1)
        most = 2**31 - 1 if self.max_tokens is None else self.max_tokens
        _whole("min_tokens", self.min_tokens, 0, most)
        _within("temperature", self.temperature, 0.0, 100.0)
        _whole("top_k", self.top_k, -1, 2**31 - 1)
        _within("top_p", self.top_p, 0.0, 1.0, open_low=True)
        _within("min_p", self.min_p, 0.0, 1.0)
        _within("typical_p", self.typical_p, 0.0, 1.0, open_low=True)
        _within("repetition_penalty", self.repetition_penalty, 0.0, 100.0, open_low=True)
        _within("presence_penalty", self.presence_penalty, -2.0, 2.0)
        _within("frequency_penalty", self.frequency_penalty, -2.0, 2.0)
        if self.seed is not None:
            _whole("seed", self.seed, -(2**63), 2**64 - 1)
        for name in ("logprobs", "prompt_logprobs"):
            if getattr(self, name) is not None:
                _whole(name, getattr(self, name), 0, MAX_LOGPROBS)

    def _check_infill(self) -> None:
        end = 1
        for span in self.infill:
            is_pair = isinstance(span, Sequence) and len(span) == 2 and all(map(_is_token_id, span))
            if not is_pair or span[0] >= span[1]:
                raise UserError(f"infill: {span!r} is no stretch", "(start, end) with start < end")
            if span[0] < end:
                wrong = (
                    "begins before the one before it ends" if end > 1 else "holds the first token"
                )
                raise UserError(
                    f"infill: the stretch {span!r} {wrong}",
                    "stretches that ascend, do not overlap and leave the first token as it is",
                )
            end = span[1]
        given = {
            "stop": bool(self.stop),
            "stop_token_ids": bool(self.stop_token_ids),
            "min_tokens": self.min_tokens > 0,
            "logprobs": self.logprobs is not None,
        }
        for name in (name for name, is_given in given.items() if is_given):
            raise UserError(f"{name} has no meaning with infill", "leave it out")

    def _check_structured(self) -> None:
        if not isinstance(self.structured_outputs, StructuredOutputs):
            raise UserError("structured_outputs is no StructuredOutputs", "such as a JSON schema")
        given = {
            "ignore_eos": self.ignore_eos,
            "min_tokens": self.min_tokens > 0,
            "max_tokens=0": self.max_tokens == 0,
        }
        for name in (name for name, is_given in given.items() if is_given):
            raise UserError(f"{name} has no meaning with structured output", "leave it out")
        begin = self.structured_outputs.begins_at
        if begin is not None and not (self.infill and begin <= self.infill[0][0]):
            raise UserError(
                f"begins_at={begin} is no place before the first stretch of an infill",
                "where the text begins that has to fit, or leave it out",
            )

    def _check_collections(self) -> None:
        stops = self.stop if isinstance(self.stop, Sequence) else ("",)
        if len(stops) > MAX_STOPS or any(not s or not isinstance(s, str) for s in stops):
            raise UserError("stop must hold non-empty strings", f"at most {MAX_STOPS} of them")
        ids = self.stop_token_ids
        if not isinstance(ids, Sequence) or not all(map(_is_token_id, ids)):
            raise UserError("stop_token_ids must hold token ids", "non-negative integers")
        if not isinstance(self.logit_bias, Mapping):
            raise UserError("logit_bias is not a mapping", "such as {42: -100.0}")
        for token, bias in self.logit_bias.items():
            if not _is_token_id(token) or not (_is_number(bias) and math.isfinite(bias)):
                raise UserError(
                    f"logit_bias {token!r}: {bias!r} is not a token id with a finite bias",
                    "a mapping such as {42: -100.0}",
                )


def _is_token_id(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_TOKEN_ID


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _whole(name: str, value: int, low: int, high: int) -> None:
    if not isinstance(value, int):
        raise UserError(f"{name}={value!r} is not a whole number", f"from {low} to {high}")
    _within(name, value, low, high)


def _within(name: str, value: float, low: float, high: float, *, open_low: bool = False) -> None:
    if _is_number(value) and (low < value if open_low else low <= value) and value <= high:
        return
    left = "(" if open_low else "["
    raise UserError(f"{name}={value!r} is out of range", f"{name} must lie in {left}{low}, {high}]")
