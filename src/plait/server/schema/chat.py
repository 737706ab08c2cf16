"""/v1/chat/completions."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from plait.core.errors import UserError
from plait.core.params import SamplingParams
from plait.server.schema.common import (
    PLAIN_TEXT,
    STORE,
    TOOLS,
    Answer,
    Body,
    FinishReason,
    Penalties,
    Timings,
    Usage,
    unsupported,
)


class TextPart(Body):
    """The one kind of content there is."""

    type: Literal["text"]
    text: str


class Message(Body):
    """A turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]
    name: str | None = Field(None, max_length=64)
    refusal: unsupported("say it as content") = None  # type: ignore[valid-type]
    annotations: unsupported("there are none", []) = None  # type: ignore[valid-type]
    audio: unsupported("this model reads text only") = None  # type: ignore[valid-type]
    tool_calls: unsupported(TOOLS, []) = None  # type: ignore[valid-type]
    function_call: unsupported(TOOLS) = None  # type: ignore[valid-type]

    def plain(self) -> dict[str, Any]:
        """As chat templates expect it: the developer's words are the system's."""
        role = "system" if self.role == "developer" else self.role
        content = (
            self.content
            if isinstance(self.content, str)
            else "".join(part.text for part in self.content)
        )
        return {"role": role, "content": content} | ({"name": self.name} if self.name else {})


class ChatRequest(Penalties):
    """A conversation that the model is to go on with."""

    messages: list[Message] = Field(min_length=1)
    max_tokens: int | None = Field(None, description="The old name of max_completion_tokens.")
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    chat_template_kwargs: dict[str, Any] | None = None
    response_format: unsupported("only text is available yet", PLAIN_TEXT) = None  # type: ignore[valid-type]
    tools: unsupported(TOOLS, []) = None  # type: ignore[valid-type]
    tool_choice: unsupported(TOOLS, "none") = None  # type: ignore[valid-type]
    parallel_tool_calls: unsupported(TOOLS) = None  # type: ignore[valid-type]
    functions: unsupported(TOOLS, []) = None  # type: ignore[valid-type]
    function_call: unsupported(TOOLS, "none") = None  # type: ignore[valid-type]
    modalities: unsupported("this model writes text only", ["text"]) = None  # type: ignore[valid-type]
    audio: unsupported("this model writes text only") = None  # type: ignore[valid-type]
    prediction: unsupported("no prediction is used") = None  # type: ignore[valid-type]
    reasoning_effort: unsupported("the model knows none") = None  # type: ignore[valid-type]
    verbosity: unsupported("the model knows none") = None  # type: ignore[valid-type]
    web_search_options: unsupported("this server searches nothing") = None  # type: ignore[valid-type]
    store: unsupported(STORE, False) = None  # type: ignore[valid-type]
    metadata: unsupported(STORE, {}) = None  # type: ignore[valid-type]
    service_tier: unsupported("there is one tier", "auto", "default") = None  # type: ignore[valid-type]

    def params(self) -> SamplingParams:
        """Raises UserError for values out of range, or that contradict each other."""
        limits = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(limits) > 1:
            raise UserError("max_tokens and max_completion_tokens differ", "give one of them")
        if self.top_logprobs is not None and not self.logprobs:
            raise UserError("top_logprobs needs logprobs", "set logprobs to true")
        return self.sampling(
            max_tokens=next(iter(limits), None),
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            logit_bias=self.biases,
        )


class TopLogprob(Answer):
    """bytes: of the token, which need not be whole characters."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    """top_logprobs: the likeliest tokens in its place, best first."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(Answer):
    """One entry per token."""

    content: list[TokenLogprob]
    refusal: None = None


class ChatMessage(Answer):
    """What the model says; in a stream the piece that is new."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    refusal: None = None


class ChatChoice(Answer):
    """One answer."""

    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class ChatCompletion(Answer):
    """The whole answer."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    timings: Timings


class ChatDelta(Answer):
    """What is new of one answer."""

    index: int
    delta: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None


class ChatChunk(Answer):
    """One chunk of a stream."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChatDelta]
    usage: Usage | None = None
    timings: Timings | None = None
