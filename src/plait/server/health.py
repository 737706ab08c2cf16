"""/health, /metrics, /props and /slots: what goes on."""

from __future__ import annotations

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from plait.core.config import VERSION
from plait.server.state import Phase, state_of


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
    state = state_of(request)
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
    """The requests that the engine has. Whose they are is not told. Raises RefusedError while loading."""
    snapshot = state_of(request).served.worker.snapshot()
    now = time.perf_counter()
    return [
        {
            "id": one.request_id,
            "state": one.state,
            "priority": one.priority,
            "prompt_tokens": one.prompt_tokens,
            "computed_tokens": one.computed,
            "generated_tokens": one.generated,
            "seconds_left": None if one.deadline is None else max(0.0, one.deadline - now),
        }
        for one in snapshot.requests
    ]
