"""/v1/responses."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field

from plait.core.errors import UserError
from plait.core.params import SamplingParams
from plait.core.structured import StructuredOutputs
from plait.server.schema.common import (
    ONE_TIER,
    STORE,
    TOOLS,
    Answer,
    Body,
    CachedTokens,
    Sampling,
    Timings,
    TokenLogprob,
    Unsupported,
)
from plait.server.schema.structured import ResponsesFormat

LOGPROBS = "message.output_text.logprobs"
"""The one thing that an answer may include besides."""


class Part(Body):
    """A piece of text, the user's or the model's."""

    type: Literal["input_text", "output_text"]
    text: str
    annotations: Annotated[Any, Unsupported("there are none", ([],))] = None
    logprobs: list[dict[str, Any]] | None = Field(
        None, description="Of an answer that is given back; a model reads the text alone."
    )


class Item(Body):
    """A turn of the conversation; `id` and `status` are those of an answer that is given back."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]
    id: str | None = Field(None, max_length=128)
    status: Literal["completed", "incomplete", "in_progress"] | None = None

    def plain(self) -> dict[str, Any]:
        """As chat templates expect it."""
        content = (
            self.content
            if isinstance(self.content, str)
            else "".join(part.text for part in self.content)
        )
        role = "system" if self.role == "developer" else self.role
        return {"role": role, "content": content}


class TextOptions(Body):
    """format: what the answer has to look like."""

    format: ResponsesFormat | None = None
    verbosity: Annotated[Any, Unsupported("the model knows none")] = None

    def asked(self) -> StructuredOutputs | None:
        """Raises UserError."""
        return None if self.format is None else self.format.asked()


class ResponseRequest(Sampling):
    """A text or a conversation to answer."""

    input: str | Annotated[list[Item], Field(min_length=1)]
    instructions: str | None = None
    max_output_tokens: int | None = None
    metadata: dict[str, str] | None = Field(None, max_length=16, description="Given back as it is.")
    text: TextOptions | None = None
    tools: Annotated[Any, Unsupported(TOOLS, ([],))] = None
    tool_choice: Annotated[Any, Unsupported(TOOLS, ("none",))] = None
    parallel_tool_calls: Annotated[Any, Unsupported(TOOLS)] = None
    max_tool_calls: Annotated[Any, Unsupported(TOOLS)] = None
    store: Annotated[Any, Unsupported(STORE, (False,))] = None
    previous_response_id: Annotated[Any, Unsupported(STORE)] = None
    conversation: Annotated[Any, Unsupported(STORE)] = None
    background: Annotated[Any, Unsupported(STORE, (False,))] = None
    prompt: Annotated[Any, Unsupported("there are no stored prompts")] = None
    include: list[Literal["message.output_text.logprobs"]] | None = None
    top_logprobs: int | None = Field(
        None, ge=0, le=20, description="Alternatives to each token; needs the include of logprobs."
    )
    reasoning: Annotated[Any, Unsupported("the model knows none")] = None
    truncation: Annotated[
        Any, Unsupported("a prompt that is too long is refused", ("disabled",))
    ] = None
    service_tier: Annotated[Any, ONE_TIER] = None

    def messages(self) -> list[dict[str, Any]]:
        """The conversation, the instructions first."""
        head = [{"role": "system", "content": self.instructions}] if self.instructions else []
        if isinstance(self.input, str):
            return [*head, {"role": "user", "content": self.input}]
        return [*head, *(item.plain() for item in self.input)]

    def params(self) -> SamplingParams:
        """Raises UserError for values out of range."""
        if self.top_logprobs and not self.include:
            raise UserError(
                "top_logprobs needs logprobs", f"set include to {json.dumps([LOGPROBS])}"
            )
        return self.sampling(
            max_tokens=self.max_output_tokens,
            logprobs=(self.top_logprobs or 0) if self.include else None,
            structured_outputs=self.text and self.text.asked(),
        )


class OutputText(Answer):
    """A piece of the answer."""

    type: Literal["output_text"] = "output_text"
    text: str
    annotations: list[Any] = []
    logprobs: list[TokenLogprob] = []


class OutputMessage(Answer):
    """The answer."""

    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    status: Literal["in_progress", "completed", "incomplete"]
    content: list[OutputText]


class NoReasoning(Answer):
    """This server reports none."""

    reasoning_tokens: int = 0


class ResponseUsage(Answer):
    """Tokens, by this endpoint's names."""

    input_tokens: int
    input_tokens_details: CachedTokens
    output_tokens: int
    output_tokens_details: NoReasoning
    total_tokens: int


class Incomplete(Answer):
    """Why an answer is not complete."""

    reason: Literal["max_output_tokens"]


class Response(Answer):
    """The whole of it, also inside the events of a stream."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    model: str
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    output: list[OutputMessage]
    instructions: str | None
    max_output_tokens: int | None
    temperature: float
    top_p: float
    top_logprobs: int
    metadata: dict[str, str]
    error: dict[str, Any] | None = None
    incomplete_details: Incomplete | None = None
    parallel_tool_calls: bool = False
    tool_choice: str = "none"
    tools: list[Any] = []
    previous_response_id: None = None
    text: dict[str, Any]
    truncation: str = "disabled"
    usage: ResponseUsage | None = None
    timings: Timings | None = None
