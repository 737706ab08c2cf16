"""The log of requests in a file: a line of JSON each, and never more bytes than were allowed.

Half of the bytes are for the file, half for the one before it (NAME.1), which the next replaces. A line says who
asked (a hash of the API key), for what, and what became of it; what was asked only if that is wanted.
"""

from __future__ import annotations

import json
import logging
import os
import time
from pathlib import Path
from typing import Any

from plait.core.errors import UserError

log = logging.getLogger(__name__)


class RequestLog:
    """Belongs to the event loop. A disk that is full costs lines, which the other log says, and no answers."""

    def __init__(self, file: Path, size: int) -> None:
        """size: bytes of both files. Raises UserError for a file that cannot be written."""
        self._file = file
        self._most = size // 2
        self._is_failing = False
        try:
            self._open()
        except OSError as error:
            raise UserError(
                f"the log of requests cannot be written: {error}", "choose another --request-log"
            ) from None

    def write(self, fields: dict[str, Any], body: bytes | None = None) -> None:
        """A line for a request that has been answered. body: what was asked, if that is wanted.

        A body that makes a line longer than a file is left out, and only its size said.
        """
        head = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **fields}
        if body is None:
            line = _line(head)
        else:
            line = _line({**head, "body": body.decode("utf-8", "replace")})
            if len(line) > self._most:
                line = _line({**head, "body": None, "body_bytes": len(body)})
        try:
            if self._size + len(line) > self._most:
                self._turn()
            os.write(self._descriptor, line)
            self._size += len(line)
            self._is_failing = False
        except OSError as error:
            if not self._is_failing:
                log.warning("requests are not logged: %s", error)
            self._is_failing = True

    def close(self) -> None:
        os.close(self._descriptor)

    def _open(self) -> None:
        """Only its owner may read it."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(self._file, flags, 0o600)
        self._size = os.fstat(self._descriptor).st_size

    def _turn(self) -> None:
        before = self._descriptor
        self._file.replace(self._file.with_name(f"{self._file.name}.1"))
        self._open()
        os.close(before)


def _line(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields).encode() + b"\n"
