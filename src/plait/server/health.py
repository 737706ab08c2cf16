"""/health, /metrics, /props and /slots: what goes on."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from plait.core.config import VERSION
from plait.engine.engine import Engine
from plait.server.errors import RefusedError
from plait.server.state import Phase, State, state_of

SLOT_SECONDS = 10.0
"""How long /slots waits for a step to end."""


async def health(request: Request) -> Response:
    """200 once requests are answered; 503 before, and while the server ends."""
    phase = state_of(request).phase
    words = {Phase.LOADING: "loading model", Phase.READY: "ok", Phase.DRAINING: "draining"}
    return JSONResponse({"status": words[phase]}, 200 if phase is Phase.READY else 503)


async def metrics(request: Request) -> Response:
    """Prometheus' text format."""
    text = state_of(request).metrics.text()
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


async def props(request: Request) -> dict[str, Any]:
    """Settings in effect; no key is among them. Raises RefusedError while the model is loaded."""
    state = _loaded(request)
    served, settings = state.served, state.settings
    scheduler = served.worker.engine.scheduler
    return {
        "version": VERSION,
        "model": served.names[0],
        "names": list(served.names),
        "words": list(served.words),
        "context_length": served.traits.context_length,
        "vocab_size": served.traits.vocab_size,
        "kv_tokens": served.num_slots,
        "max_num_seqs": scheduler.max_num_seqs,
        "max_num_batched_tokens": scheduler.max_num_batched_tokens,
        "max_concurrent_requests": settings.max_concurrent_requests,
        "max_body_bytes": settings.max_body_bytes,
        "max_choices": settings.max_choices,
        "has_chat_template": (served.template or served.tokenizer.chat_template) is not None,
        "needs_key": bool(settings.all_keys()),
    }


async def slots(request: Request) -> list[dict[str, Any]]:
    """The requests that the engine has, as they stand between two steps."""
    state = _loaded(request)
    future = state.served.worker.call(_requests)
    try:
        async with asyncio.timeout(SLOT_SECONDS):
            return await asyncio.wrap_future(future)
    except TimeoutError:
        raise RefusedError(503, "a step takes too long", "try again later") from None


def _requests(engine: Engine) -> list[dict[str, Any]]:
    scheduler = engine.scheduler
    states = [(one, "running") for one in scheduler.running]
    states += [(one, "waiting") for one in scheduler.waiting]
    return [
        {
            "id": request.seq.request_id,
            "state": state,
            "prompt_tokens": request.seq.prompt_length,
            "computed_tokens": scheduler.cache.length(request.seq),
            "generated_tokens": request.seq.emitted - request.seq.prompt_length,
            "preemptions": request.seq.metrics.num_preemptions,
        }
        for request, state in states
    ]


def _loaded(request: Request) -> State:
    state = state_of(request)
    if not state.is_loaded:
        raise RefusedError(503, "the model is being loaded", "see /health", retry_after=1)
    return state
