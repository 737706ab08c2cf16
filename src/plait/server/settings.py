"""ServerConfig: how the server listens, whom it lets in and how much it takes on."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from pathlib import Path

from plait.core.errors import UserError

MAX_KEY_FILE_BYTES = 1 << 20
MIN_LOG_BYTES = 8192


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """host, port: where to listen; port 0 is one that is free. served_names: what clients may call the model;
    empty means the name it was opened by.

    api_keys, api_key_file (a key per line): who may ask; with none of either, everybody who can connect.
    isolate_prefix_cache: whether cached prefixes are shared only among the requests of one key.
    cors_origins: origins of web pages that browsers let ask, "*" for all.
    max_body_bytes: of one request. body_seconds: how long a body may take to arrive.
    max_concurrent_requests: those being worked on; more are refused. max_choices: prompts times n of one.
    grace_seconds: what running requests get after SIGTERM. ping_seconds: silence on a stream after which a
    comment is sent; 0 sends none. log_format: "text" or "json".
    log_requests: bytes of the log of requests in the file request_log and the one before it; 0 writes none.
    log_prompts: whether it also holds what was asked.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    served_names: tuple[str, ...] = ()
    api_keys: tuple[str, ...] = ()
    api_key_file: Path | None = None
    isolate_prefix_cache: bool = True
    cors_origins: tuple[str, ...] = ()
    max_body_bytes: int = 16 << 20
    body_seconds: float = 60.0
    max_concurrent_requests: int = 256
    max_choices: int = 128
    grace_seconds: float = 30.0
    ping_seconds: float = 15.0
    log_format: str = "text"
    log_requests: int = 0
    request_log: Path = Path("plait-requests.jsonl")
    log_prompts: bool = False

    def __post_init__(self) -> None:
        for name, low, high in (
            ("port", 0, 65535),
            ("max_body_bytes", 1024, 1 << 32),
            ("max_concurrent_requests", 1, 1 << 20),
            ("max_choices", 1, 1 << 16),
            ("body_seconds", 0.001, inf),
            ("grace_seconds", 0, inf),
            ("ping_seconds", 0, inf),
        ):
            if not low <= getattr(self, name) <= high:
                raise UserError(
                    f"{name}={getattr(self, name)!r} is out of range", f"{low} to {high}"
                )
        if self.log_requests and not MIN_LOG_BYTES <= self.log_requests <= 1 << 40:
            raise UserError(
                f"log_requests={self.log_requests!r} is out of range",
                f"0, or {MIN_LOG_BYTES} to {1 << 40}",
            )
        if self.log_prompts and not self.log_requests:
            raise UserError(
                "log_prompts asks for a log of requests that is not written", "add --log-requests"
            )
        if self.log_format not in ("text", "json"):
            raise UserError(f"log_format={self.log_format!r} is not known", "text or json")
        if not all(self.api_keys):
            raise UserError("an API key is empty", "leave it out to let everybody in")

    def all_keys(self) -> tuple[str, ...]:
        """All API keys, those of the file included. Raises UserError for a file that holds none."""
        if self.api_key_file is None:
            return self.api_keys
        try:
            with self.api_key_file.open(encoding="utf-8") as file:
                lines = file.read(MAX_KEY_FILE_BYTES).split()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{self.api_key_file} is no file of keys: {error}") from None
        if not lines:
            raise UserError(f"{self.api_key_file} holds no key", "one key per line")
        return (*self.api_keys, *lines)
