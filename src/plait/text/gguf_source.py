"""A tokenizer from the metadata of a GGUF file (fields `tokenizer.*` of the GGUF specification)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from plait.core.errors import FormatError
from plait.text import pretokenizers
from plait.text.codec import LiteralCodec, Merger, Parts
from plait.text.endings import ending_ids
from plait.text.fields import Fields
from plait.text.merges import RankMerger
from plait.text.pieces import ScoreMerger
from plait.text.vocabulary import Kind, Vocabulary, byte_of_name

_CONTROL_LOOK = re.compile(r"<\|[^|<>\s]+\|>|<(?:start|end)_of_turn>")
_TEXT = (Kind.NORMAL, Kind.USER_DEFINED)


def parts(metadata: Mapping[str, Any]) -> Parts:
    """Build the parts. Raises FormatError naming the field that is missing, wrong or unknown."""
    fields = Fields(metadata)
    model = fields.text("model")
    if model == "gpt2":
        return _byte_level(fields)
    if model == "llama":
        return _sentencepiece(fields)
    raise fields.error(
        "model", f"is {model[:40]!r}, a kind of tokenizer that is not known", "known: gpt2, llama"
    )


def _byte_level(fields: Fields) -> Parts:
    family = pretokenizers.family(fields.text("pre", "default"))
    vocabulary = _vocabulary(fields, byte_level=True)
    merger = RankMerger(vocabulary, fields.strings("merges"), family)
    return _parts(fields, vocabulary, merger, add_bos=family.add_bos)


def _sentencepiece(fields: Fields) -> Parts:
    vocabulary = _vocabulary(fields, byte_level=False)
    space_prefix = fields.flag("add_space_prefix", True)
    merger = ScoreMerger(
        vocabulary,
        fields.numbers("scores", len(vocabulary), float, int),
        space_prefix=space_prefix,
        unknown_id=fields.token_id("unknown_token_id", len(vocabulary), 0),
    )
    return _parts(
        fields, vocabulary, merger, add_bos=True, bos_id=1, eos_id=2, space_prefix=space_prefix
    )


def _parts(
    fields: Fields,
    vocabulary: Vocabulary,
    merger: Merger,
    *,
    add_bos: bool,
    bos_id: int | None = None,
    eos_id: int | None = None,
    space_prefix: bool = False,
) -> Parts:
    """bos_id, eos_id, add_bos: what a file that does not say means."""
    size = len(vocabulary)
    bos = fields.token_id("bos_token_id", size, bos_id)
    eos = fields.token_id("eos_token_id", size, eos_id)
    turn_ends = [fields.token_id(name, size) for name in ("eot_token_id", "eom_token_id")]
    return Parts(
        codec=LiteralCodec(vocabulary, merger),
        bos_id=bos,
        eos_id=eos,
        eos_ids=ending_ids(vocabulary, [eos, *turn_ends]),
        prefix_ids=_added(fields, "add_bos_token", add_bos, bos),
        suffix_ids=_added(fields, "add_eos_token", False, eos),
        space_prefix=space_prefix,
        chat_template=fields.chat_template(),
    )


def _added(fields: Fields, name: str, default: bool, token_id: int | None) -> tuple[int, ...]:
    wanted = fields.flag(name, default)
    if wanted and token_id is None and name in fields:
        raise fields.error(name, "asks for a token that the file does not name")
    return (token_id,) if wanted and token_id is not None else ()


def _vocabulary(fields: Fields, *, byte_level: bool) -> Vocabulary:
    names = fields.strings("tokens")
    if not names:
        raise fields.error("tokens", "is empty")
    kinds = _kinds(fields, names, byte_level)
    _refuse_duplicates(names)
    return Vocabulary(names, kinds, byte_level=byte_level)


def _kinds(fields: Fields, names: list[str], byte_level: bool) -> list[int]:
    if "token_type" in fields:
        kinds = list(fields.numbers("token_type", len(names), int))
        if set(kinds) - set(Kind):
            raise fields.error("token_type", "has a kind of token that is not known")
    else:
        spelt = (None if byte_level else byte_of_name(name) for name in names)
        kinds = [int(Kind.NORMAL if byte is None else Kind.BYTE) for byte in spelt]
    _correct(names, kinds)
    return kinds


def _correct(names: list[str], kinds: list[int]) -> None:
    """Some converters wrote control tokens down as ordinary ones, and left names empty."""
    for token_id in [i for i, name in enumerate(names) if not name or name[0] == "<"]:
        if not names[token_id]:
            kinds[token_id] = int(Kind.UNUSED)
        elif kinds[token_id] in _TEXT and _CONTROL_LOOK.fullmatch(names[token_id]):
            kinds[token_id] = int(Kind.CONTROL)


def _refuse_duplicates(names: list[str]) -> None:
    named = [name for name in names if name]
    if len(set(named)) == len(named):
        return
    seen: set[str] = set()
    for token_id, name in enumerate(names):
        if name and name in seen:
            raise FormatError(
                f"tokenizer.ggml.tokens: token {token_id} repeats {name[:80]!r}",
                "the model file is damaged",
            )
        seen.add(name)
