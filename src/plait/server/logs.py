"""One line per request: as text, or as JSON for machines."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

from plait.server.generation import Generation
from plait.server.metrics import Metrics

log = logging.getLogger("plait.server")


class Record:
    """What there is to say about one request. path: the route's, or "-" for an unknown one."""

    def __init__(self, request_id: str, method: str, path: str) -> None:
        self.fields: dict[str, Any] = {"request": request_id, "method": method, "path": path}
        self._start = time.perf_counter()
        self._generation: Generation | None = None

    def generation(self, generation: Generation, user: str | None) -> None:
        """What the request generates; its numbers are read at the end."""
        self._generation = generation
        self._user(user)

    def tokens(self, num_prompt: int, num_generated: int, user: str | None) -> None:
        """Tokens of a request that generates nothing."""
        self.fields |= {"prompt_tokens": num_prompt, "tokens": num_generated}
        self._user(user)

    def ended(self, status: int, metrics: Metrics) -> None:
        """Write the line and count the request."""
        self.fields["status"] = status
        self.fields["seconds"] = round(time.perf_counter() - self._start, 4)
        metrics.answered(self.fields["path"], status)
        if self._generation is not None:
            self._sum_up(self._generation, metrics)
        log.info("request", extra={"fields": self.fields})

    def _user(self, user: str | None) -> None:
        if user is not None:
            self.fields["user"] = user

    def _sum_up(self, generation: Generation, metrics: Metrics) -> None:
        outputs = [choice.output for choice in generation.choices]
        self.fields |= {
            "prompt_tokens": sum(len(prompt.ids) for prompt in generation.prompts),
            "tokens": sum(len(output.token_ids) for output in outputs),
            "finish": "/".join(sorted({output.finish_reason or "gone" for output in outputs})),
        }
        metrics.prompted(self.fields["prompt_tokens"])


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", {})
        words = [f"{name}={json.dumps(value)}" for name, value in fields.items()]
        # A client's words never begin a line of their own: json.dumps writes control letters out.
        return super().format(record) + "".join(f" {word}" for word in words)


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line)


def set_up(log_format: str) -> None:
    """Send what Plait and uvicorn have to say to stderr. log_format: "text" or "json"."""
    handler = logging.StreamHandler(sys.stderr)
    text = _Text("%(asctime)s %(levelname)s %(message)s")
    handler.setFormatter(_Json() if log_format == "json" else text)
    for name, level in (("plait", logging.INFO), ("uvicorn", logging.ERROR)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
