"""Text to token ids and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from plait.core.errors import ContextLengthError, UserError
from plait.text import folder_source, gguf_source
from plait.text.codec import Parts


class Tokenizer:
    """A model's tokenizer. Safe to use from several threads at once.

    Made by `from_gguf` or `from_folder`. Text is always `str`; bytes that may not be UTF-8 are decoded by
    the caller, who knows what to do about errors. A lone surrogate is refused (it is no character).
    Normalisation is what the source says: tokenizer.json may ask for NFC, GGUF metadata never does, so
    there every text comes back from `decode` as it was, except for characters that a byte-level
    vocabulary cannot spell: they are left out (SmolLM2 lacks six control characters and the unassigned
    planes).
    """

    def __init__(self, parts: Parts) -> None:
        self._codec = parts.codec
        self._vocabulary = parts.codec.vocabulary
        self._prefix = list(parts.prefix_ids)
        self._suffix = list(parts.suffix_ids)
        self.space_prefix = parts.space_prefix
        self._longest_name = max(1, max(map(len, self._vocabulary.names)))
        self.bos_id = parts.bos_id
        self.eos_id = parts.eos_id
        self.eos_ids = parts.eos_ids
        self.chat_template = parts.chat_template

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, Any]) -> Tokenizer:
        """From GGUF metadata (keys `tokenizer.*`). Raises FormatError naming the field at fault."""
        return cls(gguf_source.parts(metadata))

    @classmethod
    def from_folder(cls, path: Path) -> Tokenizer:
        """From a folder with tokenizer.json and its kin. Raises FormatError naming the file at fault."""
        return cls(folder_source.parts(path))

    @classmethod
    def from_source(cls, source: Mapping[str, Any] | Path) -> Tokenizer:
        """From what `Checkpoint.tokenizer_source` gives."""
        return cls.from_folder(source) if isinstance(source, Path) else cls.from_gguf(source)

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        return len(self._vocabulary)

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids that are never text: control tokens, the unknown token, unused entries."""
        return self._vocabulary.special_ids

    @property
    def add_bos(self) -> bool:
        """Whether `encode` starts a text with `bos_id`."""
        return self.bos_id is not None and self.bos_id in self._prefix

    def encode(
        self, text: str, *, add_special: bool = True, parse_special: bool = False
    ) -> list[int]:
        """Token ids of a text.

        add_special: put the tokens around it that the model expects (often only `bos_id`).
        parse_special: a control token written out in the text, such as <|im_end|>, becomes that token;
        otherwise it is encoded as the letters it is made of.
        Raises UserError for a lone surrogate.
        """
        ids = self._codec.encode(_characters(text), parse_special=parse_special)
        return [*self._prefix, *ids, *self._suffix] if add_special else ids

    def min_tokens(self, text: str) -> int:
        """A number of tokens that the text surely needs, at no cost (letters over the longest token)."""
        return -(-len(text) // self._longest_name)

    def refuse_longer(self, text: str, most: int) -> None:
        """Raise ContextLengthError for a text that surely needs more tokens than `most`.

        Encoding it first would take seconds, and hundreds of bytes of memory per letter, for megabytes.
        """
        least = self.min_tokens(text)
        if least > most:
            raise ContextLengthError(
                f"the prompt has at least {least} tokens, but the context holds {most}",
                "shorten the prompt",
            )

    def encode_marked(self, text: str, mark: str) -> list[int]:
        """As `encode` with parse_special and without add_special, except at marks.

        No control token is read across a mark, and marks are left out. mark: one letter.
        """
        return self._codec.encode_marked(_characters(text), mark)

    def decode(
        self, ids: Iterable[int], *, skip_special: bool = True, at_start: bool = False
    ) -> str:
        """Text of token ids; bytes that are not UTF-8 become U+FFFD.

        skip_special: leave special tokens out, otherwise show their names. at_start: the ids are a whole
        text, so the space that `encode` puts before some models' text is taken off again.
        Raises UserError for an id outside the vocabulary.
        """
        skipped = self.special_ids if skip_special else frozenset()
        pieces = [self.token_bytes(token_id) for token_id in ids if token_id not in skipped]
        text = b"".join(pieces).decode("utf-8", "replace")
        return text.removeprefix(" ") if at_start and self.space_prefix else text

    def token_bytes(self, token_id: int) -> bytes:
        """What one token adds to the output; the name of a special token. UserError if no such id."""
        return self._vocabulary.token_bytes(token_id)

    def token_name(self, token_id: int) -> str:
        """A token as its vocabulary writes it, e.g. "<|im_end|>"."""
        return self._vocabulary.names[token_id]

    def vocabulary(self) -> list[bytes]:
        """`token_bytes` of every id, in order."""
        return [self.token_bytes(token_id) for token_id in range(self.vocab_size)]

    def control_names(self) -> list[str]:
        """The texts that `parse_special` turns into control tokens."""
        return self._codec.control_names()


def _characters(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"the text holds a lone surrogate at character {error.start}, which is no character",
            "decode the input as UTF-8 with errors='replace', or remove it",
        ) from None
    return text
