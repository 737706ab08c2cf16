"""Errors as OpenAI's clients know them: {"error": {message, type, param, code}} with the right status."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from plait.core.errors import BusyError, CapacityError, ContextLengthError, NotFoundError, UserError

TYPES = {401: "authentication_error", 408: "timeout_error", 429: "rate_limit_error"}
LONGEST = 2000
"""Letters of a message: what a client sent is not sent back at any length."""
_FIELD = re.compile(r"([\w.]{1,64})(?:=|:|$| must| needs | ends at | has no meaning)")
"""How messages begin that are about one field."""


class RefusedError(UserError):
    """A request that is refused for a reason of the server's own. code: for programs."""

    def __init__(
        self,
        status: int,
        message: str,
        hint: str = "",
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, hint)
        self.http_status = status
        self.code = code
        self.param = param
        self.retry_after = retry_after


def error_body(
    status: int, message: str, *, code: str | None = None, param: str | None = None
) -> dict[str, Any]:
    """The body. Characters that no JSON can carry become "?"."""
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    text = message[:LONGEST].encode("utf-8", "replace").decode()
    param = param and param[:LONGEST].encode("utf-8", "replace").decode()
    return {"error": {"message": text, "type": kind, "param": param, "code": code}}


def status_of(error: UserError) -> int:
    """A request that is too large for this machine is the client's to change."""
    return 400 if isinstance(error, CapacityError) else error.http_status


def body_of(error: UserError) -> dict[str, Any]:
    """The body for an error in the user's words."""
    message = f"{error.message}: {error.hint}" if error.hint else error.message
    if isinstance(error, RefusedError):
        return error_body(error.http_status, message, code=error.code, param=error.param)
    code = next((code for kind, code in _CODES.items() if isinstance(error, kind)), None)
    named = _FIELD.match(error.message)
    return error_body(status_of(error), message, code=code, param=named[1] if named else None)


_CODES: dict[type[UserError], str] = {
    ContextLengthError: "context_length_exceeded",
    BusyError: "queue_full",
    NotFoundError: "not_found",
}


def response_to(error: UserError) -> JSONResponse:
    """The whole answer to an error, Retry-After included."""
    seconds = getattr(error, "retry_after", None)
    headers = {} if seconds is None else {"Retry-After": str(max(1, math.ceil(seconds)))}
    if error.http_status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body_of(error), status_of(error), headers)


def add_handlers(app: FastAPI) -> None:
    """Let every error of the app be answered in this form."""

    @app.exception_handler(UserError)
    async def refused(_: Request, error: UserError) -> JSONResponse:
        return response_to(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse(_invalid(error.errors()), 400)

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse(error_body(error.status_code, str(error.detail)), error.status_code)

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse(error_body(500, "the server failed; its log says how"), 500)


def _invalid(errors: Sequence[Any]) -> dict[str, Any]:
    """What is wrong with a body; of several things the first, with all their fields named."""
    first = errors[0]
    if first["type"] == "json_invalid":
        return error_body(400, f"the body is not JSON: {first['ctx']['error']}")
    path = [str(part) for part in first["loc"] if part != "body"]
    param = ".".join(path[:8])
    others = {str(one["loc"][1]) for one in errors if len(one["loc"]) > 1} - {
        path[0] if path else ""
    }
    more = f" (also wrong: {', '.join(sorted(others)[:8])})" if others else ""
    if first["type"] == "extra_forbidden":
        return error_body(400, f"unknown field {param!r}{more}", code="unknown_field", param=param)
    code = "unsupported" if first["type"] == "unsupported" else "invalid_value"
    return error_body(400, f"{param or 'the body'}: {first['msg']}{more}", code=code, param=param)
