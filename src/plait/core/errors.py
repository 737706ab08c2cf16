"""Errors with two readers: the user (message + the way out) and the caller (exit code, HTTP status).

`UserError` is for what the user can put right; a broken invariant of ours stays an `AssertionError`.
"""

from __future__ import annotations


class UserError(Exception):
    """Something the user gave us cannot be honoured.

    message: one line, in the user's words: what was wrong.
    hint: one line: what would be accepted instead (may be empty).
    """

    exit_code = 2
    http_status = 400

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class NotFoundError(UserError):
    """A name (model, decoder, file) that does not exist; the hint lists the nearest ones."""

    http_status = 404


class FormatError(UserError):
    """A file that is damaged, hostile or of a kind we do not read."""

    http_status = 422


class ContextLengthError(UserError):
    """A prompt (plus what it asks for) is longer than the context; both numbers are in the message."""


class BusyError(UserError):
    """More requests are waiting than the queue takes. retry_after: seconds after which to try again."""

    http_status = 429

    def __init__(self, message: str, hint: str, retry_after: float) -> None:
        super().__init__(message, hint)
        self.retry_after = retry_after


class CapacityError(UserError):
    """The machine has too little memory or disk for what was asked."""

    exit_code = 3
    http_status = 507
