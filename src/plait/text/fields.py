"""Checked reading of tokenizer metadata: a field is of the type it should be, or a FormatError names it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from plait.core.errors import FormatError

PREFIX = "tokenizer.ggml."
MAX_TOKENS = 1 << 22
"""Sixteen times the largest vocabularies."""


class Fields:
    """The `tokenizer.*` fields of GGUF metadata; names are given without "tokenizer.ggml."."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self._metadata = metadata

    def __contains__(self, name: str) -> bool:
        return PREFIX + name in self._metadata

    def error(self, name: str, problem: str, hint: str = "") -> FormatError:
        """A FormatError that names the field."""
        return FormatError(f"{PREFIX}{name} {problem}", hint or "the model file is damaged")

    def strings(self, name: str) -> list[str]:
        """A list of text that must be there."""
        found = self._list(name)
        if set(map(type, found)) - {str}:
            raise self.error(name, "is not a list of text")
        try:
            "".join(found).encode()
        except UnicodeEncodeError as error:
            raise self.error(name, "holds a lone surrogate, which is no character") from error
        return found

    def numbers(self, name: str, count: int, *kinds: type) -> list[Any]:
        """A list of `count` finite numbers of these types that must be there."""
        found = self._list(name)
        if len(found) != count:
            raise self.error(name, f"has {len(found)} entries for {count} tokens")
        if set(map(type, found)) - set(kinds):
            raise self.error(name, "is not a list of numbers")
        if not isfinite(sum(found)):
            raise self.error(name, "holds a number that is not finite")
        return found

    def text(self, name: str, default: str | None = None) -> str:
        """A text; the default when it is not there, a FormatError when there is no default."""
        found = self._metadata.get(PREFIX + name, default)
        if not isinstance(found, str):
            raise self.error(name, "is missing" if found is None else "is not text")
        return found

    def flag(self, name: str, default: bool) -> bool:
        """A truth value; the default when it is not there."""
        found = self._metadata.get(PREFIX + name, default)
        if not isinstance(found, bool):
            raise self.error(name, "is neither true nor false")
        return found

    def token_id(self, name: str, num_tokens: int, default: int | None = None) -> int | None:
        """An id below num_tokens. The default, if there is such a token, when the field is not there."""
        if name not in self:
            return default if default is not None and default < num_tokens else None
        found = self._metadata[PREFIX + name]
        if type(found) is not int or not 0 <= found < num_tokens:
            raise self.error(name, f"is {found!r:.40}, not the id of one of {num_tokens} tokens")
        return found

    def chat_template(self) -> str | None:
        """The model's chat template (`tokenizer.chat_template`), if it has one."""
        found = self._metadata.get("tokenizer.chat_template")
        if found is not None and not isinstance(found, str):
            raise FormatError("tokenizer.chat_template is not text", "the model file is damaged")
        return found or None

    def _list(self, name: str) -> list[Any]:
        found = self._metadata.get(PREFIX + name)
        if found is None:
            raise self.error(name, "is missing", "the file carries no usable tokenizer")
        if not isinstance(found, Sequence) or isinstance(found, str):
            raise self.error(name, "is not a list")
        if len(found) > MAX_TOKENS:
            raise self.error(name, f"has {len(found)} entries, more than any model")
        return found if isinstance(found, list) else list(found)
