"""/v1/responses."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from plait.core.errors import UserError
from plait.core.params import SamplingParams
from plait.core.structured import StructuredOutputs
from plait.server.schema.common import (
    ONE_TIER,
    STORE,
    Answer,
    Body,
    CachedTokens,
    Sampling,
    Timings,
    TokenLogprob,
    Unsupported,
)
from plait.server.schema.structured import ResponsesFormat
from plait.server.schema.tools import FlatToolChoice, FlatTools, FunctionName, chosen
from plait.text.tool_calls.base import Tool

Status = Literal["completed", "incomplete", "in_progress"]
Id = Annotated[str, Field(max_length=128)]
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
    id: Id | None = None
    status: Status | None = None

    def plain(self) -> dict[str, Any]:
        """As chat templates expect it."""
        role = "system" if self.role == "developer" else self.role
        return {"role": role, "content": _joined(self.content)}


class GivenCall(Body):
    """A call that an earlier answer made."""

    type: Literal["function_call"]
    call_id: Id
    name: FunctionName
    arguments: str
    id: Id | None = None
    status: Status | None = None

    def plain(self) -> dict[str, Any]:
        """As chat templates expect it."""
        function = {"name": self.name, "arguments": self.arguments}
        call = {"id": self.call_id, "type": "function", "function": function}
        return {"role": "assistant", "content": None, "tool_calls": [call]}


class CallOutput(Body):
    """What such a call gave."""

    type: Literal["function_call_output"]
    call_id: Id
    output: str | list[Part]
    id: Id | None = None
    status: Status | None = None

    def plain(self) -> dict[str, Any]:
        """As chat templates expect it."""
        return {"role": "tool", "tool_call_id": self.call_id, "content": _joined(self.output)}


def _joined(content: str | list[Part]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)


def _kind(item: Any) -> str:
    """A turn need not say that it is one."""
    own = item.get("type", "message") if isinstance(item, dict) else getattr(item, "type", None)
    return str(own)


InputItem = Annotated[
    Annotated[Item, Tag("message")]
    | Annotated[GivenCall, Tag("function_call")]
    | Annotated[CallOutput, Tag("function_call_output")],
    Discriminator(_kind),
]


class TextOptions(Body):
    """format: what the answer has to look like."""

    format: ResponsesFormat | None = None
    verbosity: Annotated[Any, Unsupported("the model knows none")] = None

    def asked(self) -> StructuredOutputs | None:
        """Raises UserError."""
        return None if self.format is None else self.format.asked()


class ResponseRequest(Sampling):
    """A text or a conversation to answer."""

    input: str | Annotated[list[InputItem], Field(min_length=1)]
    instructions: str | None = None
    max_output_tokens: int | None = None
    metadata: dict[str, str] | None = Field(None, max_length=16, description="Given back as it is.")
    text: TextOptions | None = None
    tools: FlatTools | None = None
    tool_choice: FlatToolChoice | None = None
    parallel_tool_calls: bool | None = Field(None, description="Whether several may be called.")
    max_tool_calls: Annotated[Any, Unsupported("this server calls no tools itself")] = None
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
        head: list[dict[str, Any]] = (
            [{"role": "system", "content": self.instructions}] if self.instructions else []
        )
        if isinstance(self.input, str):
            return [*head, {"role": "user", "content": self.input}]
        found = head
        for item in self.input:
            message = item.plain()
            if isinstance(item, GivenCall) and found and found[-1]["role"] == "assistant":
                calls = [*found[-1].get("tool_calls", ()), *message["tool_calls"]]
                found[-1] = {**found[-1], "tool_calls": calls}
            else:
                found.append(message)
        return found

    def callable_tools(self) -> list[Tool]:
        """The tools that the model may call. Raises UserError for what contradicts them."""
        found = chosen(self.tools, self.tool_choice)
        if found and self.include:
            raise UserError("logprobs have no meaning with tools", "leave out include")
        if found and self.text and self.text.asked() is not None:
            raise UserError("tools and what an answer has to fit contradict each other", "give one")
        return found

    @property
    def must_call(self) -> bool:
        """Whether nothing but calls may be answered."""
        return self.tool_choice not in (None, "none", "auto")

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
    status: Status
    content: list[OutputText]


class OutputCall(Answer):
    """A call that the model wants to be made. arguments: JSON text, the beginning of it if the answer was cut."""

    id: str
    type: Literal["function_call"] = "function_call"
    status: Status
    call_id: str
    name: str
    arguments: str


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
    output: list[OutputMessage | OutputCall]
    instructions: str | None
    max_output_tokens: int | None
    temperature: float
    top_p: float
    top_logprobs: int
    metadata: dict[str, str]
    error: dict[str, Any] | None = None
    incomplete_details: Incomplete | None = None
    parallel_tool_calls: bool
    tool_choice: Any
    tools: list[Any]
    previous_response_id: None = None
    text: dict[str, Any]
    truncation: str = "disabled"
    usage: ResponseUsage | None = None
    timings: Timings | None = None
