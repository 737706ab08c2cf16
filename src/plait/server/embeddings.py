"""/v1/embeddings: texts as vectors, of the hidden states that the head would get."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from plait.core.window import Floats
from plait.server import prompts
from plait.server.errors import RefusedError
from plait.server.guard import record_of
from plait.server.schema.tokens import Embedding, EmbeddingList, EmbeddingRequest, EmbeddingUsage
from plait.server.state import Served, state_of
from plait.server.stream import json_response, unless_gone

Result = TypeVar("Result")


async def answer(body: EmbeddingRequest, request: Request) -> Response:
    """One vector per input. Raises UserError."""
    state = state_of(request)
    served = state.served
    prompts.check_model(served, body.model)
    texts = await prompts.encoded(served, body.input, state.settings.max_choices)
    num_tokens = sum(len(text.ids) for text in texts)
    record_of(request).tokens(num_tokens, 0, body.user)

    async def all_vectors() -> list[Floats]:
        # One text at a time in the whole server: each holds memory that requests may want.
        async with state.reading:
            return [await _vector(served, text.ids, body.pooling) for text in texts]

    vectors = await unless_gone(request, all_vectors())
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


async def _vector(served: Served, ids: list[int], pooling: str) -> Floats:
    """A text as float32 [width], of length 1: the mean of its hidden states, or the last of them."""
    reading = served.worker.engine.read(ids)
    try:
        total, last = np.zeros(0, np.float64), np.zeros(0, np.float32)
        while (rows := await _called(served, reading.next)) is not None:
            sums = rows.sum(axis=0, dtype=np.float64)
            total, last = (total + sums if len(total) else sums), rows[-1]
    finally:
        served.worker.call(lambda _: reading.close())
    vector = total if pooling == "mean" else last.astype(np.float64)
    return (vector / max(float(np.linalg.norm(vector)), 1e-12)).astype(np.float32)


async def _called(served: Served, function: Callable[[], Result]) -> Result:
    """Run a function in the engine's thread, between two steps."""
    return await asyncio.wrap_future(served.worker.call(lambda _: function()))


def _spelled(vector: Floats, body: EmbeddingRequest) -> list[float] | str:
    if body.encoding_format == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return [float(value) for value in vector]
