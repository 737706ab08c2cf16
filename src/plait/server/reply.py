"""How a request that generates is answered: whole, or in pieces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from plait.core.params import SamplingParams
from plait.server.generation import Delta, Generation, Prompt
from plait.server.guard import record_of, salt_of, tenant_of
from plait.server.schema.common import Sampling
from plait.server.state import state_of
from plait.server.stream import EventStream, json_response, unless_gone


class Maker(Protocol):
    """Makes the answer of one request."""

    def whole(self, deltas: list[Delta]) -> BaseModel:
        """All of it, once every choice has ended; a delta for each."""

    def stream(self, patience: float) -> AsyncIterator[bytes]:
        """Events, with a ping after `patience` seconds of silence."""


async def generation_for(
    request: Request, body: Sampling, prompts: Sequence[Prompt], params: SamplingParams
) -> Generation:
    """What a request asks for, submitted. Raises UserError."""
    state = state_of(request)
    if params.structured_outputs is not None:
        # Off the event loop, one at a time, keys in turn: afterwards the engine finds it compiled.
        constraining = state.served.worker.engine.constraining
        async with state.compiling.held_for(tenant_of(request)):
            await asyncio.to_thread(constraining.state, params)
    return Generation(
        state.served,
        prompts,
        params,
        tenant=tenant_of(request),
        deadline=body.deadline,
        cache_salt=salt_of(request, body.cache_salt),
        **body.parts(),
    )


async def reply(request: Request, body: Sampling, generation: Generation, maker: Maker) -> Response:
    """The whole answer, or a stream of it. Raises UserError."""
    record_of(request).generation(generation, body.user)
    if body.stream:
        return EventStream(generation, maker.stream(state_of(request).settings.ping_seconds))
    async with generation:
        deltas = await unless_gone(request, generation.whole())
    return json_response(maker.whole(deltas))
