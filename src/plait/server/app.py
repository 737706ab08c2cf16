"""The routes, and nothing else."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from plait.core.config import VERSION
from plait.server import (
    chat,
    completions,
    embeddings,
    errors,
    health,
    models,
    responses,
    tokens,
)
from plait.server.guard import Guard
from plait.server.page import mount_page
from plait.server.schema.chat import ChatCompletion
from plait.server.schema.common import Answer, ErrorBody
from plait.server.schema.completions import Completion
from plait.server.schema.responses import Response
from plait.server.schema.tokens import EmbeddingList, Text, Tokens
from plait.server.state import State

POSTS: dict[str, tuple[Any, type[Answer]]] = {
    "/v1/completions": (completions.answer, Completion),
    "/v1/chat/completions": (chat.answer, ChatCompletion),
    "/v1/responses": (responses.answer, Response),
    "/v1/embeddings": (embeddings.answer, EmbeddingList),
    "/tokenize": (tokens.tokenize, Tokens),
    "/detokenize": (tokens.detokenize, Text),
}
GETS: dict[str, Any] = {
    "/v1/models": models.all_models,
    "/v1/models/{model:path}": models.one_model,
    "/health": health.health,
    "/metrics": health.metrics,
    "/props": health.props,
    "/slots": health.slots,
}


ERRORS = (400, 401, 404, 408, 413, 429, 500, 503)


def create_app(state: State, lifespan: AbstractAsyncContextManager[None]) -> FastAPI:
    """The app. lifespan: entered when the server starts, left when it ends."""
    app = FastAPI(
        title="Plait", version=VERSION, docs_url=None, redoc_url=None, lifespan=lambda _: lifespan
    )
    app.state.plait = state
    for path, (endpoint, shape) in POSTS.items():
        app.post(path, response_model=None, responses=_described(shape))(endpoint)
    for path, endpoint in GETS.items():
        app.get(path, response_model=None)(endpoint)
    mount_page(app)
    errors.add_handlers(app)
    paths = [route.path for route in app.routes if hasattr(route, "path")]
    app.add_middleware(Guard, state=state, paths=paths)
    if state.settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(state.settings.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["X-Request-Id", "Retry-After"],
        )
    return app


def _described(shape: type[Answer]) -> dict[int | str, dict[str, Any]]:
    return {200: {"model": shape}, **{status: {"model": ErrorBody} for status in ERRORS}}
