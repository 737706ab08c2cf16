"""/v1/chat/completions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from plait.core.errors import UserError
from plait.core.params import SamplingParams
from plait.server.schema.common import (
    ONE_TIER,
    STORE,
    Answer,
    Body,
    Canvas,
    Timings,
    TokenLogprob,
    Unsupported,
    Usage,
)
from plait.server.schema.structured import Constrained
from plait.server.schema.tools import MAX_TOOLS, CallDelta, MadeCall, ToolChoice, Tools, chosen
from plait.text.tool_calls.base import Tool

FUNCTIONS = "it is the old form of tools"
FinishReason = Literal["stop", "length", "tool_calls"]


class TextPart(Body):
    """The one kind of content there is."""

    type: Literal["text"]
    text: str


class Message(Body):
    """A turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    name: str | None = Field(None, max_length=64)
    refusal: Annotated[Any, Unsupported("say it as content")] = None
    annotations: Annotated[Any, Unsupported("there are none", ([],))] = None
    audio: Annotated[Any, Unsupported("this model reads text only")] = None
    tool_calls: Annotated[list[MadeCall], Field(max_length=MAX_TOOLS)] | None = None
    tool_call_id: str | None = Field(None, max_length=128)
    function_call: Annotated[Any, Unsupported(FUNCTIONS)] = None

    def plain(self) -> dict[str, Any]:
        """As chat templates expect it: the developer's words are the system's. Raises UserError for nothing said."""
        role = "system" if self.role == "developer" else self.role
        content = self.content
        if content is None and not self.tool_calls:
            raise UserError("messages: one has no content", "text")
        if not isinstance(content, str):
            content = "".join(part.text for part in content or ())
        calls = [call.model_dump() for call in self.tool_calls or ()]
        more = {"name": self.name, "tool_calls": calls, "tool_call_id": self.tool_call_id}
        return {"role": role, "content": content} | {k: v for k, v in more.items() if v}


class ChatRequest(Constrained):
    """A conversation that the model is to go on with."""

    messages: list[Message] = Field(min_length=1)
    max_tokens: int | None = Field(None, description="The old name of max_completion_tokens.")
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    chat_template_kwargs: dict[str, Any] | None = None
    tools: Tools | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = Field(None, description="Whether several may be called.")
    functions: Annotated[Any, Unsupported(FUNCTIONS, ([],))] = None
    function_call: Annotated[Any, Unsupported(FUNCTIONS, ("none",))] = None
    modalities: Annotated[Any, Unsupported("this model writes text only", (["text"],))] = None
    audio: Annotated[Any, Unsupported("this model writes text only")] = None
    prediction: Annotated[Any, Unsupported("no prediction is used")] = None
    reasoning_effort: Annotated[Any, Unsupported("the model knows none")] = None
    verbosity: Annotated[Any, Unsupported("the model knows none")] = None
    web_search_options: Annotated[Any, Unsupported("this server searches nothing")] = None
    store: Annotated[Any, Unsupported(STORE, (False,))] = None
    metadata: Annotated[Any, Unsupported(STORE, ({},))] = None
    service_tier: Annotated[Any, ONE_TIER] = None

    def callable_tools(self) -> list[Tool]:
        """The tools that the model may call. Raises UserError for what contradicts them."""
        found = chosen(self.tools, self.tool_choice)
        if found and self.logprobs:
            raise UserError("logprobs has no meaning with tools", "leave it out")
        if found and self.structured() is not None:
            raise UserError("tools and what an answer has to fit contradict each other", "give one")
        return found

    @property
    def must_call(self) -> bool:
        """Whether nothing but calls may be answered."""
        return self.tool_choice not in (None, "none", "auto")

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
            structured_outputs=self.structured(),
        )


class ChatLogprobs(Answer):
    """One entry per token."""

    content: list[TokenLogprob]
    refusal: None = None


class ChatMessage(Answer):
    """What the model says; in a stream the piece that is new."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    tool_calls: list[CallDelta] | list[MadeCall] | None = None
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
    """What is new of one answer. canvas: see `watch`."""

    index: int
    delta: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None
    canvas: Canvas | None = None


class ChatChunk(Answer):
    """One chunk of a stream."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChatDelta]
    usage: Usage | None = None
    timings: Timings | None = None
