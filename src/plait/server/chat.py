"""/v1/chat/completions: a conversation to go on with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from plait.server import prompts
from plait.server.accounts import timings_of, usage_of
from plait.server.calls import Calls, delta_of, offer, whole
from plait.server.generation import Delta, Generation
from plait.server.reply import generation_for, reply
from plait.server.schema.chat import (
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChatDelta,
    ChatLogprobs,
    ChatMessage,
    ChatRequest,
)
from plait.server.schema.common import Canvas, Timings, Usage, new_id, now
from plait.server.scores import token_logprobs
from plait.server.state import Served, state_of
from plait.server.stream import DONE, PING, event
from plait.text.tool_calls.base import Syntax


async def answer(body: ChatRequest, request: Request) -> Response:
    """The whole answer, or a stream of it. Raises UserError."""
    state = state_of(request)
    served = state.served
    prompts.check_model(served, body.model)
    params, tools = body.params(), body.callable_tools()
    prompts.refuse_many(1, params.n, state.settings.max_choices)
    messages, offered, syntax, params = offer(
        served,
        [message.plain() for message in body.messages],
        tools,
        params,
        must_call=body.must_call,
        is_parallel=body.parallel_tool_calls is not False,
    )
    prompt = await prompts.encoded_chat(served, messages, body.chat_template_kwargs, offered)
    generation = await generation_for(request, body, [prompt], params)
    return await reply(request, body, generation, _Maker(body, served, generation, syntax))


class _Maker:
    """Makes the answer of one request, whole or in pieces."""

    def __init__(
        self, body: ChatRequest, served: Served, generation: Generation, syntax: Syntax | None
    ) -> None:
        """syntax: of calls, where there are tools to be called."""
        self.body = body
        self._calls = [Calls(syntax) for _ in generation.choices]
        self.served = served
        self.generation = generation
        self.id, self.created = new_id("chatcmpl-"), now()

    def whole(self, deltas: list[Delta]) -> ChatCompletion:
        """The answer to a request that has ended."""
        return ChatCompletion(
            id=self.id,
            object="chat.completion",
            created=self.created,
            model=self.served.names[0],
            choices=[self._choice(delta) for delta in deltas],
            usage=usage_of(self.generation),
            timings=timings_of(self.generation),
        )

    async def stream(self, patience: float) -> AsyncIterator[bytes]:
        """The same in pieces, each choice's role before its first."""
        options = self.body.stream_options
        wants_usage = options is not None and options.include_usage
        num_open = len(self.generation.choices)
        for index in range(num_open):
            yield self._event([self._delta(index, {"role": "assistant", "content": ""})])
        async for delta in self.generation.deltas(patience):
            if delta is None:
                yield PING
                continue
            for said in self._said(delta):
                yield self._event([self._delta(delta.index, said, logprobs=self._scores(delta))])
            if delta.canvas is not None:
                yield self._event([self._delta(delta.index, {}, canvas=delta.canvas)])
            if delta.finish_reason is not None:
                num_open -= 1
                reason = self._calls[delta.index].reason(delta.finish_reason)
                last = self._delta(delta.index, {}, reason=reason)
                is_end = not (num_open or wants_usage)
                yield self._event([last], timings=timings_of(self.generation) if is_end else None)
        if wants_usage:
            yield self._event([], usage_of(self.generation), timings_of(self.generation))
        yield DONE

    def _choice(self, delta: Delta) -> ChatChoice:
        own = self._calls[delta.index]
        text, calls = whole(own.read(delta.text, is_end=True))
        message = ChatMessage(role="assistant", content=text or (None if calls else ""))
        message.tool_calls = calls or None
        return ChatChoice(
            index=delta.index,
            message=message,
            logprobs=self._scores(delta),
            finish_reason=own.reason(delta.finish_reason),  # type: ignore[arg-type]
        )

    def _said(self, delta: Delta) -> list[dict[str, Any]]:
        """What is new of a choice, one entry for each chunk; tokens may come without text that is certain."""
        is_end = delta.finish_reason is not None
        pieces = self._calls[delta.index].read(delta.text, is_end=is_end)
        if not pieces and delta.tokens:
            return [{"content": delta.text}]
        return [
            {"content": piece.text} if piece.call is None else {"tool_calls": [delta_of(piece)]}
            for piece in pieces
        ]

    def _delta(
        self,
        index: int,
        said: dict[str, Any],
        *,
        logprobs: ChatLogprobs | None = None,
        reason: str | None = None,
        canvas: Canvas | None = None,
    ) -> ChatDelta:
        watched = {} if canvas is None else {"canvas": canvas}
        return ChatDelta(
            index=index,
            delta=ChatMessage(**said),
            logprobs=logprobs,
            finish_reason=reason,  # type: ignore[arg-type]
            **watched,
        )

    def _scores(self, delta: Delta) -> ChatLogprobs | None:
        if not self.body.logprobs:
            return None
        num_top = self.body.top_logprobs or 0
        return ChatLogprobs(content=token_logprobs(self.served.tokenizer, delta.tokens, num_top))

    def _event(
        self, choices: list[ChatDelta], usage: Usage | None = None, timings: Timings | None = None
    ) -> bytes:
        extra: dict[str, Any] = {"usage": usage, "timings": timings}
        chunk = ChatChunk(
            id=self.id,
            object="chat.completion.chunk",
            created=self.created,
            model=self.served.names[0],
            choices=choices,
            **{name: value for name, value in extra.items() if value is not None},
        )
        return event(chunk.model_dump_json(exclude_unset=True))
