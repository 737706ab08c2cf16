"""A conversation: its messages and settings, and how it is kept in a file."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_type_hints

from plait.cli.flags import SAMPLING
from plait.core.errors import FormatError, NotFoundError, UserError
from plait.core.params import SamplingParams

Message = dict[str, str]

MAX_FILE_BYTES = 16 << 20
ROLES = ("system", "user", "assistant")


@dataclass(slots=True)
class Conversation:
    """system: instruction in front of everything, "" for none. messages: user and assistant in turn."""

    params: SamplingParams
    system: str = ""
    messages: list[Message] = field(default_factory=list)

    def prompt(self) -> list[Message]:
        """What the model is asked: the system message, if any, then everything said so far."""
        head = [{"role": "system", "content": self.system}] if self.system else []
        return head + self.messages

    def say(self, role: str, content: str) -> None:
        """Add a message."""
        self.messages.append({"role": role, "content": content})

    def take_back(self) -> None:
        """Forget the last message (a question that got no answer)."""
        self.messages.pop()

    def set(self, name: str, text: str) -> None:
        """Change one sampling parameter, as typed. Raises UserError when it cannot be that."""
        self.params = replace(self.params, **{name: _value(name, text)})

    def save(self, name: str) -> Path:
        """Write everything but the seed's luck to a file; returns its path."""
        path = _path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        record = {"system": self.system, "messages": self.messages}
        path.write_text(json.dumps(record, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        return path

    def load(self, name: str) -> Path:
        """Replace system and messages by those of a file that `save` wrote."""
        path = _path(name)
        if not path.is_file():
            raise NotFoundError(f"no saved conversation {name!r}", f"looked for {path}")
        self.system, self.messages = _read(path)
        return path


def folder() -> Path:
    """Where conversations without a path of their own lie."""
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "plait" / "chats"


def _path(name: str) -> Path:
    if "/" in name or name.endswith(".json"):
        return Path(name).expanduser()
    return folder() / f"{name}.json"


def _read(path: Path) -> tuple[str, list[Message]]:
    if path.stat().st_size > MAX_FILE_BYTES:
        raise FormatError(
            f"{path} is no saved conversation: it is larger than {MAX_FILE_BYTES:,} bytes"
        )
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        system = str(record["system"])
        messages = [{"role": m["role"], "content": m["content"]} for m in record["messages"]]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise FormatError(f"{path} is no saved conversation") from None
    if not all(m["role"] in ROLES and isinstance(m["content"], str) for m in messages):
        raise FormatError(f"{path} is no saved conversation", f"roles: {', '.join(ROLES)}")
    return system, messages


def _value(name: str, text: str) -> Any:
    flag = SAMPLING.flags.get(name)
    if flag is None or name == "n":
        known = ", ".join(key for key in SAMPLING.flags if key != "n")
        raise UserError(f"{name!r} is no setting", f"settings: {known}")
    hint = get_type_hints(SamplingParams)[name]
    if text.lower() == "none" and type(None) in getattr(hint, "__args__", ()):
        return None
    if flag.read is not None:
        return flag.read([text])
    return _number(name, text, getattr(hint, "__args__", (hint,))[0])


def _number(name: str, text: str, kind: type) -> Any:
    words = {"true": True, "on": True, "false": False, "off": False}
    if kind is bool:
        if text.lower() not in words:
            raise UserError(f"{name} is true or false, not {text!r}")
        return words[text.lower()]
    try:
        return kind(text)
    except ValueError:
        expected = "a whole number" if kind is int else "a number"
        raise UserError(f"{name} is {expected}, not {text!r}") from None
