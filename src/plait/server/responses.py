"""/v1/responses: OpenAI's newer endpoint, for text and function tools."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import Response as Reply

from plait.core.errors import UserError
from plait.server import prompts
from plait.server.accounts import timings_of, usage_of
from plait.server.calls import offer
from plait.server.errors import body_of
from plait.server.generation import Delta, Generation
from plait.server.items import Items
from plait.server.reply import generation_for, reply
from plait.server.schema.common import new_id, now
from plait.server.schema.responses import (
    Incomplete,
    NoReasoning,
    Response,
    ResponseRequest,
    ResponseUsage,
)
from plait.server.state import Served, state_of
from plait.server.stream import PING, event
from plait.text.tool_calls.base import Syntax

Status = Literal["in_progress", "completed", "incomplete", "failed"]


async def answer(body: ResponseRequest, request: Request) -> Reply:
    """The whole answer, or a stream of it. Raises UserError."""
    state = state_of(request)
    served = state.served
    prompts.check_model(served, body.model)
    messages, offered, syntax, params = offer(
        served,
        body.messages(),
        body.callable_tools(),
        body.params(),
        must_call=body.must_call,
        is_parallel=body.parallel_tool_calls is not False,
    )
    prompt = await prompts.encoded_chat(served, messages, None, offered)
    generation = await generation_for(request, body, [prompt], params)
    return await reply(request, body, generation, _Maker(body, served, generation, syntax))


class _Maker:
    """Makes the answer of one request, whole or as events."""

    def __init__(
        self,
        body: ResponseRequest,
        served: Served,
        generation: Generation,
        syntax: Syntax | None,
    ) -> None:
        """syntax: of calls, where there are tools to be called."""
        self.body = body
        self.served = served
        self.generation = generation
        self.items = Items(served, generation.params, syntax)
        self.id, self.created = new_id("resp_"), now()
        self._num_events = 0

    def whole(self, deltas: list[Delta]) -> Response:
        """The answer, once there is all of it."""
        (delta,) = deltas
        is_complete = delta.finish_reason == "stop"
        self.items.begin()
        self.items.take(delta)
        self.items.end(is_complete=is_complete)
        return self._ended(is_complete=is_complete)

    async def stream(self, patience: float) -> AsyncIterator[bytes]:
        """The events of a stream; one that fails ends with `response.failed`."""
        started = self._response("in_progress").model_dump()
        yield self._event("response.created", response=started)
        yield self._event("response.in_progress", response=started)
        for kind, fields in self.items.begin():
            yield self._event(kind, **fields)
        reason = None
        try:
            async for delta in self.generation.deltas(patience):
                if delta is None:
                    yield PING
                    continue
                reason = delta.finish_reason or reason
                for kind, fields in self.items.take(delta):
                    yield self._event(kind, **fields)
        except UserError as error:
            yield self._failed(error)
            return
        for kind, fields in self.items.end(is_complete=reason == "stop"):
            yield self._event(kind, **fields)
        response = self._ended(is_complete=reason == "stop")
        yield self._event(f"response.{response.status}", response=response.model_dump())

    @property
    def _format(self) -> dict[str, Any]:
        """As it was asked for."""
        own = self.body.text and self.body.text.format
        return own.model_dump(by_alias=True) if own else {"type": "text"}

    @property
    def _choice(self) -> Any:
        """As it was asked for."""
        own = self.body.tool_choice or ("auto" if self.body.tools else "none")
        return own if isinstance(own, str) else own.model_dump()

    def _ended(self, *, is_complete: bool) -> Response:
        usage = usage_of(self.generation)
        response = self._response("completed" if is_complete else "incomplete")
        response.output = self.items.output
        response.incomplete_details = (
            None if is_complete else Incomplete(reason="max_output_tokens")
        )
        response.usage = ResponseUsage(
            input_tokens=usage.prompt_tokens,
            input_tokens_details=usage.prompt_tokens_details,
            output_tokens=usage.completion_tokens,
            output_tokens_details=NoReasoning(),
            total_tokens=usage.total_tokens,
        )
        response.timings = timings_of(self.generation)
        return response

    def _failed(self, error: UserError) -> bytes:
        told = body_of(error)["error"]
        response = self._response("failed")
        response.error = {"code": told["code"] or "server_error", "message": told["message"]}
        return self._event("response.failed", response=response.model_dump())

    def _response(self, status: Status) -> Response:
        params = self.generation.params
        return Response(
            id=self.id,
            created_at=self.created,
            model=self.served.names[0],
            status=status,
            output=[],
            instructions=self.body.instructions,
            max_output_tokens=self.body.max_output_tokens,
            temperature=params.temperature,
            top_p=params.top_p,
            top_logprobs=params.logprobs or 0,
            metadata=self.body.metadata or {},
            parallel_tool_calls=self.body.parallel_tool_calls is not False,
            tool_choice=self._choice,
            tools=[tool.model_dump(exclude_none=True) for tool in self.body.tools or ()],
            text={"format": self._format},
        )

    def _event(self, kind: str, **fields: Any) -> bytes:
        data = {"type": kind, "sequence_number": self._num_events, **fields}
        self._num_events += 1
        return event(json.dumps(data), kind)
