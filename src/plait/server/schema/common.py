"""What the schemas of several endpoints share."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
)
from pydantic_core import PydanticCustomError, core_schema

from plait.core import registry
from plait.core.errors import UserError
from plait.core.params import SamplingParams

MAX_TEXT = 16 << 20


class Body(BaseModel):
    """A request. An unknown field is refused: it would be ignored."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)


class Answer(BaseModel):
    """An answer, or a part of one."""


@dataclass(frozen=True)
class Unsupported:
    """Marks a field of OpenAI's that cannot be honoured. harmless: values that ask for nothing."""

    reason: str
    harmless: tuple[Any, ...] = ()

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_before_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**handler(schema), "description": f"Refused: {self.reason}."}

    def _check(self, value: Any) -> Any:
        same = (type(value) is type(one) and value == one for one in self.harmless)
        if value is None or any(same):
            return value
        raise PydanticCustomError(
            "unsupported", "is not supported: {reason}", {"reason": self.reason}
        )


ONE_TIER = Unsupported("there is one tier", ("auto", "default"))


STORE = "nothing is stored on this server"


def _check_names(room: str, names: Sequence[str]) -> None:
    known = registry.names(room)
    for name in names:
        if name not in known:
            told = {"name": repr(name), "known": ", ".join(known)}
            raise PydanticCustomError("unknown", "{name} is none of: {known}", told)


def _planner(name: str) -> str:
    _check_names("iteration", [] if name == "auto" else [name])
    return name


def _decoder(name: str) -> str:
    _check_names("decoding", [] if name == "auto" else re.split(r"[()]", name.rstrip(")")))
    return name


Planner = Annotated[str, Field(max_length=64), AfterValidator(_planner)]
Decoder = Annotated[str, Field(max_length=64), AfterValidator(_decoder)]
Setting = str | bool | Annotated[int, Field(ge=-(2**63), lt=2**63)] | float
Settings = Annotated[dict[str, Setting], Field(max_length=64)]


class StreamOptions(Body):
    """include_usage: send the usage in a last chunk of its own."""

    include_usage: bool = False


class Sampling(Body):
    """Fields of SamplingParams, with their own names, that every generating endpoint takes."""

    model: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repetition_penalty: float | None = None
    min_tokens: int | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool | None = None
    skip_special_tokens: bool | None = None
    include_stop_str_in_output: bool | None = None
    stream: bool | None = None
    deadline: float | None = Field(None, description="Seconds after which it ends with status 408.")
    cache_salt: Annotated[str, Field(max_length=128)] | None = Field(
        None, description="Cached prefixes are shared only with requests of the same salt."
    )
    proposer: Annotated[str, Field(max_length=32)] | None = Field(
        None,
        description="What drafts tokens: none, lookahead, auto, or what the server has loaded (draft, heads, self); the "
        "answer stays the same.",
    )
    user: Annotated[str, Field(max_length=512)] | None = Field(None, description="For the log.")
    planner: Planner | None = Field(None, description="Order of the work; else the server's own.")
    decoder: Decoder | None = Field(None, description="Choice of the tokens: credit(threshold).")
    options: Settings | None = Field(
        None, description='Of planner and decoder by name: {"threshold": 0.8, "block_size": 16}.'
    )

    def sampling(self, **more: Any) -> SamplingParams:
        """What the engine is asked for; fields that were left out have the engine's defaults.

        Raises UserError for values out of range.
        """
        own = {name: getattr(self, name) for name in SAMPLING if hasattr(self, name)}
        given = {name: value for name, value in (own | more).items() if value is not None}
        return SamplingParams(**{"max_tokens": None, **given})

    def parts(self) -> dict[str, Any]:
        """How it is to be generated, as `Engine.prepare` takes it."""
        given = {"planner": self.planner, "decoder": self.decoder, "proposer": self.proposer}
        options = {name: _text(value) for name, value in (self.options or {}).items()}
        return {name: value for name, value in given.items() if value is not None} | {
            "options": options
        }


class Penalties(Sampling):
    """What completions and chats take besides."""

    n: int | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    stream_options: StreamOptions | None = None
    watch: bool | None = Field(
        None, description="Send with a stream also what may still change, as `canvas` of a choice."
    )

    def parts(self) -> dict[str, Any]:
        """Raises UserError for `watch` without a stream."""
        if self.watch and not self.stream:
            raise UserError("watch needs a stream", "set stream to true")
        return super().parts() | {"watch": bool(self.watch)}

    @property
    def biases(self) -> dict[int, float] | None:
        """logit_bias by token id. Raises UserError for a key that is no number."""
        if self.logit_bias is None:
            return None
        if not all(key.isascii() and key.isdigit() and len(key) < 10 for key in self.logit_bias):
            raise UserError("logit_bias has a key that is no token id", 'such as {"42": -100}')
        return {int(key): value for key, value in self.logit_bias.items()}


SAMPLING = (
    *("temperature", "top_p", "top_k", "min_p", "typical_p", "repetition_penalty", "min_tokens"),
    *("stop_token_ids", "ignore_eos", "skip_special_tokens", "include_stop_str_in_output"),
    *("n", "seed", "stop", "presence_penalty", "frequency_penalty"),
)


class CachedTokens(Answer):
    """cached_tokens: of the prompt, found in the cache and not computed again."""

    cached_tokens: int


class Usage(Answer):
    """Tokens of prompts and answers; a token that ends an answer counts, what a stop string takes away does
    not."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens


class Timings(Answer):
    """cache_n: prompt tokens found in the cache; prompt_n: those computed; predicted_n: tokens generated.

    Rates are of the first choice of the first prompt, null where there was nothing to divide. draft_n,
    draft_n_accepted: tokens drafted for it, and those that were right; ..._by_place: the same by place in the draft.
    lossy: whether some of these may not be what plain decoding would have chosen (the decoder 'typical').
    draft_ms: that drafting took. draft_gain: what one token at a time would have taken, by what such steps took here,
    to what it took.
    """

    cache_n: int
    prompt_n: int
    prompt_ms: float | None
    prompt_per_second: float | None
    predicted_n: int
    predicted_ms: float | None
    predicted_per_second: float | None
    draft_n: int
    draft_n_accepted: int
    lossy: bool
    draft_n_by_place: list[int]
    draft_n_accepted_by_place: list[int]
    draft_ms: float
    draft_gain: float | None


class TopLogprob(Answer):
    """bytes: of the token, which need not be whole characters."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    """top_logprobs: the likeliest tokens in its place, best first."""

    top_logprobs: list[TopLogprob]


class Error(Answer):
    """message: for people. param: the field at fault. code: for programs."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(Answer):
    """What every refusal looks like."""

    error: Error


FinishReason = Literal["stop", "length"]
Canvas = list[str | None]
"""What stands behind the final text and may still change, piece by piece; null is an open position."""


def _text(value: Setting) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def new_id(kind: str) -> str:
    """A fresh id of an object, such as "chatcmpl-…"."""
    return f"{kind}{uuid.uuid4().hex}"


def now() -> int:
    """Seconds since 1970."""
    return int(time.time())
