"""Errors of the `tokenizers` library, in our words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from plait.core.errors import FormatError, UserError


@contextmanager
def library_errors(problem: str, kind: type[UserError] = FormatError) -> Iterator[None]:
    """Within the block the library's errors become `kind`, with `problem` before its own words.

    The library raises bare Exceptions and, where it panics, something that is not even one and would
    end a server's thread.
    """
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise kind(f"{problem}: {str(error)[:200]}") from error
