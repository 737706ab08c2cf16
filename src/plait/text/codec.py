"""Text to ids, whatever the kind of tokenizer: the contract, and the codec that GGUF metadata gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from plait.text.literals import Literals
from plait.text.vocabulary import Kind, Vocabulary


class Codec(Protocol):
    """Encodes text; adds no token that is not in the text."""

    vocabulary: Vocabulary

    def encode(self, text: str, *, parse_special: bool) -> list[int]:
        """Ids of a text. parse_special: a control token's name in it becomes that token."""

    def encode_marked(self, text: str, mark: str) -> list[int]:
        """As `encode` with parse_special, but no control token is read across a mark.

        mark: one letter; it is left out of what is encoded.
        """

    def control_names(self) -> list[str]:
        """The texts that `parse_special` turns into control tokens."""


class Merger(Protocol):
    """Encodes a stretch of text that holds no literal token."""

    def encode(self, text: str, *, after_token: bool) -> list[int]:
        """after_token: the stretch starts the text, or follows a literal token."""


@dataclass(frozen=True)
class Parts:
    """All that a tokenizer is made of.

    prefix_ids, suffix_ids: what `add_special` puts around a text. eos_ids: any of them ends an answer.
    space_prefix: encoding puts a space before the text. chat_template: jinja source.
    """

    codec: Codec
    bos_id: int | None = None
    eos_id: int | None = None
    eos_ids: frozenset[int] = frozenset()
    prefix_ids: tuple[int, ...] = ()
    suffix_ids: tuple[int, ...] = ()
    space_prefix: bool = False
    chat_template: str | None = field(default=None, repr=False)


class LiteralCodec:
    """Cuts literal tokens out first, then lets a merger encode what lies between them."""

    def __init__(self, vocabulary: Vocabulary, merger: Merger) -> None:
        self.vocabulary = vocabulary
        self._merger = merger
        always = vocabulary.literal_ids(Kind.USER_DEFINED)
        self._control = vocabulary.literal_ids(Kind.CONTROL, Kind.UNKNOWN)
        self._always = Literals(always)
        self._all = Literals(always | self._control)

    def encode(self, text: str, *, parse_special: bool) -> list[int]:
        """See `Codec`."""
        return self._encode(text, self._all if parse_special else self._always)

    def encode_marked(self, text: str, mark: str) -> list[int]:
        """See `Codec`."""
        return self._encode(text, self._all, mark)

    def control_names(self) -> list[str]:
        """See `Codec`."""
        return list(self._control)

    def _encode(
        self, text: str, literals: Literals, mark: str = "", after_token: bool = True
    ) -> list[int]:
        ids: list[int] = []
        for part in literals.split(text):
            if isinstance(part, int):
                ids.append(part)
            elif mark and mark in part:
                ids += self._encode(part.replace(mark, ""), self._always, "", after_token)
            else:
                ids += self._merger.encode(part, after_token=after_token)
            after_token = isinstance(part, int)
        return ids
