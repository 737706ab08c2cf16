"""/v1/responses: OpenAI's newer endpoint, for text."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import Response as Reply

from plait.core.errors import UserError
from plait.server import prompts
from plait.server.accounts import timings_of, usage_of
from plait.server.errors import body_of
from plait.server.generation import Delta, Generation, joined
from plait.server.reply import generation_for, reply
from plait.server.schema.common import TokenLogprob, new_id, now
from plait.server.schema.responses import (
    Incomplete,
    NoReasoning,
    OutputMessage,
    OutputText,
    Response,
    ResponseRequest,
    ResponseUsage,
)
from plait.server.scores import token_logprobs
from plait.server.state import Served, state_of
from plait.server.stream import PING, event

NOTHING = Delta(0, "")
Status = Literal["in_progress", "completed", "incomplete", "failed"]


async def answer(body: ResponseRequest, request: Request) -> Reply:
    """The whole answer, or a stream of it. Raises UserError."""
    state = state_of(request)
    served = state.served
    prompts.check_model(served, body.model)
    params = body.params()
    prompt = await prompts.encoded_chat(served, body.messages())
    generation = await generation_for(request, body, [prompt], params)
    return await reply(request, body, generation, _Maker(body, served, generation))


class _Maker:
    """Makes the answer of one request, whole or as events."""

    def __init__(self, body: ResponseRequest, served: Served, generation: Generation) -> None:
        self.body = body
        self.served = served
        self.generation = generation
        self.id, self.item_id, self.created = new_id("resp_"), new_id("msg_"), now()
        self._num_events = 0

    def whole(self, deltas: list[Delta]) -> Response:
        """The answer, once there is all of it."""
        (delta,) = deltas
        is_complete = delta.finish_reason == "stop"
        usage = usage_of(self.generation)
        response = self._response("completed" if is_complete else "incomplete")
        response.output = [self._message(delta, "completed" if is_complete else "incomplete")]
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

    async def stream(self, patience: float) -> AsyncIterator[bytes]:
        """The events of a stream; one that fails ends with `response.failed`."""
        started = self._response("in_progress").model_dump()
        yield self._event("response.created", response=started)
        yield self._event("response.in_progress", response=started)
        item = self._message(NOTHING, "in_progress").model_dump() | {"content": []}
        yield self._event("response.output_item.added", output_index=0, item=item)
        part = OutputText(text="").model_dump()
        yield self._event("response.content_part.added", **self._place, part=part)
        deltas = []
        try:
            async for delta in self.generation.deltas(patience):
                if delta is None:
                    yield PING
                    continue
                deltas.append(delta)
                if delta.text or delta.tokens:
                    said = {"delta": delta.text, "logprobs": _without_bytes(self._scores(delta))}
                    yield self._event("response.output_text.delta", **self._place, **said)
        except UserError as error:
            yield self._failed(error)
            return
        for one in self._endings(joined(deltas)):
            yield one

    @property
    def _format(self) -> dict[str, Any]:
        """As it was asked for."""
        own = self.body.text and self.body.text.format
        return own.model_dump(by_alias=True) if own else {"type": "text"}

    @property
    def _place(self) -> dict[str, Any]:
        return {"item_id": self.item_id, "output_index": 0, "content_index": 0}

    def _endings(self, delta: Delta) -> list[bytes]:
        response = self.whole([delta])
        (item,) = response.output
        (part,) = item.content
        said = {"text": delta.text, "logprobs": _without_bytes(part.logprobs)}
        return [
            self._event("response.output_text.done", **self._place, **said),
            self._event("response.content_part.done", **self._place, part=part.model_dump()),
            self._event("response.output_item.done", output_index=0, item=item.model_dump()),
            self._event(f"response.{response.status}", response=response.model_dump()),
        ]

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
            text={"format": self._format},
        )

    def _message(
        self, delta: Delta, status: Literal["in_progress", "completed", "incomplete"]
    ) -> OutputMessage:
        part = OutputText(text=delta.text, logprobs=self._scores(delta))
        return OutputMessage(id=self.item_id, status=status, content=[part])

    def _scores(self, delta: Delta) -> list[TokenLogprob]:
        num_top = self.generation.params.logprobs or 0
        return token_logprobs(self.served.tokenizer, delta.tokens, num_top)

    def _event(self, kind: str, **fields: Any) -> bytes:
        data = {"type": kind, "sequence_number": self._num_events, **fields}
        self._num_events += 1
        return event(json.dumps(data), kind)


def _without_bytes(scores: list[TokenLogprob]) -> list[dict[str, Any]]:
    """As the events of a text have them."""
    exclude: dict[str, Any] = {"bytes": True, "top_logprobs": {"__all__": {"bytes"}}}
    return [one.model_dump(exclude=exclude) for one in scores]
