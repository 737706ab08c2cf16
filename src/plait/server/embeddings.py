"""/v1/embeddings: texts as vectors, of the hidden states that the head would get."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Coroutine
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from plait.core.window import Floats
from plait.engine.worker import Reading, Worker
from plait.server import prompts
from plait.server.errors import RefusedError
from plait.server.generation import overdue
from plait.server.guard import record_of, salt_of, tenant_of
from plait.server.schema.tokens import Embedding, EmbeddingList, EmbeddingRequest, EmbeddingUsage
from plait.server.state import State, state_of
from plait.server.stream import json_response, unless_gone

Sums = NDArray[np.float64]
Result = TypeVar("Result")


async def answer(body: EmbeddingRequest, request: Request) -> Response:
    """One vector per input. Raises UserError."""
    state = state_of(request)
    served = state.served
    prompts.check_model(served, body.model)
    texts = await prompts.encoded(served, body.input, state.settings.max_choices)
    num_tokens = sum(len(text.ids) for text in texts)
    record_of(request).tokens(num_tokens, 0, body.user)
    reading = served.worker.engine.read(
        [text.ids for text in texts], cache_salt=salt_of(request), deadline=body.deadline
    )
    work = _in_time(_vectors(state, reading, body.pooling, tenant_of(request)), reading.seconds)
    vectors = await unless_gone(request, work)
    if body.dimensions not in (None, len(vectors[0])):
        raise RefusedError(
            400,
            f"dimensions={body.dimensions} is not what this model has",
            f"{len(vectors[0])}, or leave it out",
            param="dimensions",
        )
    return json_response(
        EmbeddingList(
            object="list",
            model=served.names[0],
            data=[
                Embedding(object="embedding", index=i, embedding=_spelled(vector, body))
                for i, vector in enumerate(vectors)
            ],
            usage=EmbeddingUsage(prompt_tokens=num_tokens, total_tokens=num_tokens),
        )
    )


async def _in_time(work: Coroutine[Any, Any, Result], seconds: float | None) -> Result:
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        raise overdue() from None


async def _vectors(state: State, reading: Reading, pooling: str, tenant: str) -> list[Floats]:
    """A vector of length 1 per text, float32 [width]: the mean of its hidden states, or the last of them."""
    sums: dict[int, Sums] = {}
    try:
        while not reading.is_done:
            # One reading at a time in the whole server holds memory, which requests may want; keys take turns.
            async with state.reading.held_for(tenant):
                await _read(state.served.worker, reading, pooling, sums)
    finally:
        state.served.worker.call(lambda _: reading.close())
    return [_normed(one) for one in sums.values()]


async def _read(worker: Worker, reading: Reading, pooling: str, sums: dict[int, Sums]) -> None:
    """Run forwards, each between two steps of the engine, up to the end of a text."""
    while not reading.is_done:
        pieces = await asyncio.wrap_future(worker.call(lambda _: reading.next()))
        for text, rows in pieces:
            sums[text] = _pooled(sums.get(text), rows, pooling)
        if pieces and reading.is_between_texts:
            return


def _pooled(before: Sums | None, rows: Floats, pooling: str) -> Sums:
    """The sum of a text's rows up to now, or the last of them."""
    if pooling == "last":
        last: Sums = rows[-1].astype(np.float64)
        return last
    # Row after row from the first on: the same bits wherever a text was divided.
    rest: list[Any] = [rows] if before is None else [before, rows]
    total: Sums = np.vstack(rest).sum(axis=0, dtype=np.float64)
    return total


def _normed(vector: Sums) -> Floats:
    return (vector / max(float(np.linalg.norm(vector)), 1e-12)).astype(np.float32)


def _spelled(vector: Floats, body: EmbeddingRequest) -> list[float] | str:
    if body.encoding_format == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return [float(value) for value in vector]
