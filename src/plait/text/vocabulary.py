"""What every token id stands for: its name, its kind and its bytes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import IntEnum
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from plait.core.errors import FormatError, UserError

SPACE = "▁"
"""U+2581, how SentencePiece vocabularies write a space."""

_BYTE_NAME = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Kind(IntEnum):
    """Kinds of token, numbered as in the GGUF specification (`tokenizer.ggml.token_type`).

    CONTROL tokens steer the model and never stand for text; USER_DEFINED ones are text that is always
    cut out whole, before anything else; UNUSED ones only fill the table.
    """

    UNDEFINED = 0
    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


_SPECIAL = (Kind.UNKNOWN, Kind.CONTROL, Kind.UNUSED)


def byte_letters() -> dict[int, str]:
    """Byte -> the letter that stands for it in byte-level vocabularies (GPT-2's encoder.py).

    Printable Latin-1 bytes stand for themselves; the rest follow from U+0100 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {
        byte: chr(256 + place) for place, byte in enumerate(others)
    }


_BYTE_OF_LETTER = {letter: byte for byte, letter in byte_letters().items()}


def byte_of_name(name: str) -> int | None:
    """0x41 for "<0x41>", None for a name of any other form."""
    match = _BYTE_NAME.fullmatch(name)
    return int(match[1], 16) if match else None


class Vocabulary:
    """The token table. Bytes are worked out when they are first asked for.

    names: token id -> its name, all different. kinds: token id -> `Kind`, as long as names.
    byte_level: names of text tokens are spelt in byte letters, otherwise with U+2581 for spaces.
    Raises FormatError for a BYTE token that is not named <0xNN>.
    """

    def __init__(self, names: Sequence[str], kinds: Sequence[int], *, byte_level: bool) -> None:
        self.names = names
        self.kinds = bytes(kinds)
        self.byte_level = byte_level
        self._ids = _ids_by_kind(kinds)
        self.special_ids = frozenset(self._of(*_SPECIAL))
        self._bytes: dict[int, bytes] = {}
        self._refuse_unnamed_bytes()

    def __len__(self) -> int:
        return len(self.names)

    def token_bytes(self, token_id: int) -> bytes:
        """What a token adds to the output, not always whole characters; the name of a special one.

        Raises UserError for an id outside the table.
        """
        if not 0 <= token_id < len(self.names):
            raise UserError(
                f"{token_id} is not a token id of this model",
                f"its ids run from 0 to {len(self.names) - 1}",
            )
        found = self._bytes.get(token_id)
        if found is None:
            found = self._bytes[token_id] = self._spelt(token_id)
        return found

    def literal_ids(self, *kinds: Kind) -> dict[str, int]:
        """Name -> id of the tokens of these kinds that have a name."""
        ids = self._of(*kinds)
        found = dict(zip(map(self.names.__getitem__, ids), ids, strict=True))
        found.pop("", None)
        return found

    def _of(self, *kinds: int) -> list[int]:
        return [*chain(*(self._ids[kind].tolist() for kind in kinds if kind in self._ids))]

    def _spelt(self, token_id: int) -> bytes:
        name, kind = self.names[token_id], self.kinds[token_id]
        if kind in (Kind.NORMAL, Kind.UNDEFINED):
            return _letters_to_bytes(name) if self.byte_level else name.replace(SPACE, " ").encode()
        if kind == Kind.BYTE:
            return bytes([byte_of_name(name) or 0])
        return name.encode()

    def _refuse_unnamed_bytes(self) -> None:
        for token_id in self._of(Kind.BYTE):
            if byte_of_name(self.names[token_id]) is None:
                raise FormatError(
                    f"tokenizer.ggml.tokens: byte token {token_id} is called"
                    f" {self.names[token_id][:40]!r}",
                    "a byte token is called <0x00> to <0xFF>",
                )


def _ids_by_kind(kinds: Sequence[int]) -> dict[int, NDArray[np.int32]]:
    """Kind -> its ids, ascending. A quarter of a million tokens at every start: hence NumPy."""
    table = np.asarray(kinds, np.int8)
    return {kind: np.flatnonzero(table == kind).astype(np.int32) for kind in set(table.tolist())}


def _letters_to_bytes(name: str) -> bytes:
    try:
        return bytes(map(_BYTE_OF_LETTER.__getitem__, name))
    except KeyError:  # added later, in plain text: not spelt in byte letters
        return name.encode()
