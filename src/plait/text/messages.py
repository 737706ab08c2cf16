"""Conversations: checked, and copied into plain data before any template sees them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from plait.core.errors import UserError

MAX_DEPTH = 64
_ROLE = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")

Message = dict[str, Any]


def checked(messages: Sequence[Mapping[str, Any]]) -> list[Message]:
    """Plain copies of the messages; content given in parts is joined to one text.

    A message has a role and a content: text, a list of {"type": "text", "text": ...}, or nothing if it
    calls tools. What else it has must be JSON data. Raises UserError naming the message at fault.
    """
    if isinstance(messages, str | Mapping) or not isinstance(messages, Sequence):
        raise UserError("messages is not a list", 'accepted: [{"role": "user", "content": "..."}]')
    if not messages:
        raise UserError("there are no messages", "give at least one")
    return [_message(message, f"messages[{i}]") for i, message in enumerate(messages)]


def plain(value: Any, where: str, depth: int = 0) -> Any:
    """A copy of JSON data, in plain types only. Raises UserError for anything else in it."""
    if depth > MAX_DEPTH:
        raise UserError(f"{where} is nested deeper than {MAX_DEPTH} levels")
    if value is None or type(value) in (str, bool, int, float):
        return value
    if isinstance(value, list | tuple):
        return [plain(each, where, depth + 1) for each in value]
    if isinstance(value, Mapping) and all(type(key) is str for key in value):
        return {key: plain(each, where, depth + 1) for key, each in value.items()}
    raise UserError(f"{where} holds a {type(value).__name__}", "only JSON data is accepted")


def with_texts(value: Any, change: Callable[[str], str], change_key: Callable[[str], str]) -> Any:
    """A copy of plain data with every text in it changed, and every key of a mapping."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [with_texts(each, change, change_key) for each in value]
    if isinstance(value, dict):
        return {
            change_key(key): with_texts(each, change, change_key) for key, each in value.items()
        }
    return value


def _message(message: Any, where: str) -> Message:
    if not isinstance(message, Mapping):
        raise UserError(f"{where} is not an object", 'accepted: {"role": ..., "content": ...}')
    found: Message = plain(message, where)
    role = found.get("role")
    if not isinstance(role, str) or not _ROLE.fullmatch(role):
        raise UserError(
            f"{where} has no usable role: {role!r:.60}",
            "usual roles: system, user, assistant, tool",
        )
    found["content"] = _content(found, where)
    for call in found.get("tool_calls") or []:
        _parse_arguments(call)
    return found


def _content(message: Message, where: str) -> str | None:
    content = message.get("content")
    if isinstance(content, str) or (content is None and message.get("tool_calls")):
        return content
    if isinstance(content, list):
        return "".join(_part(part, f"{where}.content[{i}]") for i, part in enumerate(content))
    raise UserError(f"{where} has no content", 'accepted: text, or [{"type": "text", "text": ...}]')


def _part(part: Any, where: str) -> str:
    if not isinstance(part, dict) or part.get("type") != "text":
        kind = part.get("type") if isinstance(part, dict) else None
        raise UserError(f"{where} is of type {kind!r:.40}", "this model reads text only")
    if not isinstance(part.get("text"), str):
        raise UserError(f"{where} has no text")
    return str(part["text"])


def _parse_arguments(call: Any) -> None:
    """Clients send the arguments of a call as JSON text, templates expect the data."""
    function = call.get("function") if isinstance(call, dict) else None
    if isinstance(function, dict) and isinstance(function.get("arguments"), str):
        try:
            arguments = json.loads(function["arguments"])
        except (ValueError, RecursionError):
            return
        if isinstance(arguments, dict):
            function["arguments"] = arguments
