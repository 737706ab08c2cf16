"""A tokenizer from a folder in Hugging Face's layout.

tokenizer.json holds the tokenizer; tokenizer_config.json, generation_config.json, chat_template.jinja and
chat_template.json say which tokens begin and end a text, and how a conversation is written down. All but
the first may be absent.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from threading import Lock
from typing import Any

import tokenizers

from plait.core.errors import FormatError, NotFoundError
from plait.text.codec import Parts
from plait.text.endings import ending_ids
from plait.text.fields import MAX_TOKENS
from plait.text.library import library_errors
from plait.text.literals import Literals
from plait.text.vocabulary import Kind, Vocabulary, byte_of_name

MAX_TOKENIZER_BYTES = 256 << 20
MAX_CONFIG_BYTES = 16 << 20


class LibraryCodec:
    """Encodes with a tokenizer of the `tokenizers` library, as tokenizer.json describes it."""

    def __init__(self, vocabulary: Vocabulary, library: tokenizers.Tokenizer) -> None:
        self.vocabulary = vocabulary
        self._library = library
        self._lock = Lock()
        self._control = Literals(vocabulary.literal_ids(Kind.CONTROL))

    def encode(self, text: str, *, parse_special: bool) -> list[int]:
        """See `Codec`."""
        with self._lock:  # the setting belongs to the whole tokenizer, not to one call
            self._library.encode_special_tokens = not parse_special
            with library_errors("tokenizer.json cannot encode this text"):
                found = self._library.encode_batch_fast([text], add_special_tokens=False)
        return list(found[0].ids)

    def encode_marked(self, text: str, mark: str) -> list[int]:
        """See `Codec`. Without a mark it is exactly `encode`."""
        if mark not in text:
            return self.encode(text, parse_special=True)
        ids: list[int] = []
        for part in self._control.split(text):
            if isinstance(part, int):
                ids.append(part)
            else:
                ids += self.encode(part.replace(mark, ""), parse_special=False)
        return ids

    def control_names(self) -> list[str]:
        """See `Codec`."""
        return list(self.vocabulary.literal_ids(Kind.CONTROL))


def parts(folder: Path) -> Parts:
    """Build the parts. Raises NotFoundError or FormatError naming the file that is missing or wrong."""
    library = _library(folder / "tokenizer.json")
    vocabulary, decoder = _vocabulary(library)
    config = _config(folder / "tokenizer_config.json")
    generation = _config(folder / "generation_config.json")
    prefix, suffix = _surroundings(library)
    bos = _named_id(library, config.get("bos_token"))
    eos = _named_id(library, config.get("eos_token"))
    return Parts(
        codec=LibraryCodec(vocabulary, library),
        bos_id=prefix[0] if prefix else bos,
        eos_id=eos,
        eos_ids=ending_ids(vocabulary, [eos, *_ids(generation.get("eos_token_id"), vocabulary)]),
        prefix_ids=prefix,
        suffix_ids=suffix,
        space_prefix=_takes_space_off(decoder),
        chat_template=_chat_template(folder, config),
    )


def _read(path: Path, limit: int) -> str | None:
    """A file's text, None if there is none of this name."""
    try:
        if path.stat().st_size > limit:
            raise FormatError(f"{path.name} is larger than {limit >> 20} MB")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"{path.name} cannot be read: {error}") from error


def _config(path: Path) -> Mapping[str, Any]:
    text = _read(path, MAX_CONFIG_BYTES)
    try:
        found = json.loads(text) if text is not None else {}
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path.name} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise FormatError(f"{path.name} is not a JSON object")
    return found


def _library(path: Path) -> tokenizers.Tokenizer:
    text = _read(path, MAX_TOKENIZER_BYTES)
    if text is None:
        raise NotFoundError(
            f"no {path.name} in {path.parent}",
            "a model folder needs it; older layouts (tokenizer.model, vocab.json) are not read",
        )
    with library_errors(f"{path.name} is not a tokenizer"):
        library = tokenizers.Tokenizer.from_str(text)
    library.no_truncation()
    library.no_padding()
    return library


def _vocabulary(library: tokenizers.Tokenizer) -> tuple[Vocabulary, str]:
    """The token table, and the decoder's description (JSON)."""
    ids = library.get_vocab(with_added_tokens=True)
    size = max(ids.values(), default=-1) + 1
    if not 0 < size <= MAX_TOKENS:
        raise FormatError(f"tokenizer.json: its largest token id is {size - 1}")
    decoder = library.decoder.__getstate__().decode() if library.decoder else ""
    byte_level = '"ByteLevel"' in decoder
    if not byte_level and not any(kind in decoder for kind in ('"Metaspace"', '"Replace"')):
        raise FormatError(
            "tokenizer.json: its decoder is of a kind that is not known",
            "known: ByteLevel, and SentencePiece-style (Metaspace, or Replace)",
        )
    names = [""] * size
    kinds = [int(Kind.UNUSED)] * size
    added = library.get_added_tokens_decoder()
    for name, token_id in ids.items():
        names[token_id] = name
        kinds[token_id] = _kind(name, added.get(token_id), byte_level)
    return Vocabulary(names, kinds, byte_level=byte_level), decoder


def _kind(name: str, added: tokenizers.AddedToken | None, byte_level: bool) -> Kind:
    if added is not None:
        return Kind.CONTROL if added.special else Kind.USER_DEFINED
    return Kind.NORMAL if byte_level or byte_of_name(name) is None else Kind.BYTE


def _surroundings(library: tokenizers.Tokenizer) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What the post-processor puts before and after a text, found by encoding one."""
    with library_errors("tokenizer.json cannot encode a letter"):
        plain = library.encode("a", add_special_tokens=False).ids
        whole = library.encode("a", add_special_tokens=True).ids
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return tuple(whole[:start]), tuple(whole[start + len(plain) :])
    raise FormatError("tokenizer.json: its post_processor changes the tokens of the text")


def _takes_space_off(decoder: str) -> bool:
    """Whether decoding drops the space that encoding put before the text."""
    state = json.loads(decoder)
    for step in state.get("decoders", [state]):
        if step.get("type") == "Strip" and step.get("content") == " " and step.get("start"):
            return True
        if step.get("type") == "Metaspace":
            return bool(step.get("prepend_scheme") != "never")
    return False


def _named_id(library: tokenizers.Tokenizer, token: Any) -> int | None:
    """The id of a token given as its name or as {"content": name}."""
    name = token.get("content") if isinstance(token, dict) else token
    return library.token_to_id(name) if isinstance(name, str) else None


def _ids(found: Any, vocabulary: Vocabulary) -> Iterable[int]:
    """generation_config.json gives one id, or a list of them."""
    several = found if isinstance(found, list) else [] if found is None else [found]
    for token_id in several:
        if type(token_id) is not int or not 0 <= token_id < len(vocabulary):
            raise FormatError(
                f"generation_config.json: eos_token_id {token_id!r:.40} is not a token id"
            )
    return several


def _chat_template(folder: Path, config: Mapping[str, Any]) -> str | None:
    text = _read(folder / "chat_template.jinja", MAX_CONFIG_BYTES)
    if text is None:
        text = _config(folder / "chat_template.json").get("chat_template")
    if text is None:
        text = config.get("chat_template")
    if isinstance(text, list):
        named = {each.get("name"): each.get("template") for each in text if isinstance(each, dict)}
        text = named.get("default")
    if text is not None and not isinstance(text, str):
        raise FormatError("tokenizer_config.json: chat_template is not text")
    return text or None
