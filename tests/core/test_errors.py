"""Errors carry a message, a way out, an exit code and an HTTP status."""

from __future__ import annotations

import pytest

from plait.core.errors import (
    CapacityError,
    ContextLengthError,
    FormatError,
    NotFoundError,
    UserError,
)


def test_the_hint_is_the_second_line() -> None:
    assert str(UserError("no such file", "check the path")) == "no such file\n  check the path"
    assert str(UserError("no such file")) == "no such file"


@pytest.mark.parametrize(
    ("kind", "exit_code", "http_status"),
    [
        (UserError, 2, 400),
        (NotFoundError, 2, 404),
        (FormatError, 2, 422),
        (ContextLengthError, 2, 400),
        (CapacityError, 3, 507),
    ],
)
def test_each_kind_has_its_codes(kind: type[UserError], exit_code: int, http_status: int) -> None:
    error = kind("what was wrong")
    assert isinstance(error, UserError)
    assert (error.exit_code, error.http_status) == (exit_code, http_status)
