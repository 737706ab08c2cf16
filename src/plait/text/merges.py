"""Byte-level BPE: merges by rank within words, done by the `tokenizers` library."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import cast

import tokenizers
from tokenizers import models

from plait.core.errors import FormatError, UserError
from plait.text import pretokenizers
from plait.text.library import library_errors
from plait.text.vocabulary import Kind, Vocabulary, byte_letters

_FIELD = "tokenizer.ggml.merges"
CHUNK_LETTERS = 1 << 16
_CHUNK_END = re.compile(r"(?<=[A-Za-z])(?= [A-Za-z])")
_HINT = "the file is damaged or was converted wrongly"


class RankMerger:
    """Text without literal tokens -> ids. Characters that the vocabulary cannot spell are left out.

    merges: "left right", the best first. Raises FormatError for a merge of or into an unknown token.
    """

    def __init__(
        self, vocabulary: Vocabulary, merges: Sequence[str], family: pretokenizers.Family
    ) -> None:
        ids = vocabulary.literal_ids(Kind.NORMAL, Kind.UNDEFINED, Kind.USER_DEFINED, Kind.BYTE)
        self._num_tokens = len(vocabulary)
        self._lacks_letters = _add_missing_letters(ids, len(vocabulary))
        pairs = [*map(tuple, map(str.split, merges, repeat(" "), repeat(1)))]
        # The library panics over a merge into an unknown token, so that is found out first.
        if not all(map(ids.__contains__, map("".join, pairs))):
            pairs = _usable(pairs, ids, vocabulary)
        model = _model(ids, pairs, vocabulary, family.whole_words)
        self._tokenizer = tokenizers.Tokenizer(model)
        self._tokenizer.pre_tokenizer = pretokenizers.build(family)

    def encode(self, text: str, *, after_token: bool) -> list[int]:
        """Ids of a stretch of text; where it stands makes no difference."""
        ids: list[int] = []
        for chunk in _chunks(text):
            with library_errors("the text cannot be encoded", UserError):
                found = self._tokenizer.encode_batch_fast([chunk], add_special_tokens=False)
            ids += found[0].ids
        if not self._lacks_letters:
            return ids
        return [token_id for token_id in ids if token_id < self._num_tokens]


def _chunks(text: str) -> Iterator[str]:
    """A long text in pieces, so that it does not take two hundred bytes of memory per letter.

    Every family cuts between a letter and a space that another letter follows, and looks no further
    than the space, so nothing changes.
    """
    start = 0
    while len(text) - start > CHUNK_LETTERS:
        place = _CHUNK_END.search(text, start + CHUNK_LETTERS)
        if place is None:
            break
        yield text[start : place.start()]
        start = place.start()
    yield text[start:]


def _add_missing_letters(ids: dict[str, int], num_tokens: int) -> bool:
    """Give bytes without a token an id beyond the table, to be dropped after merging.

    Left to itself the library drops them before, and merges what stands on either side.
    """
    missing = [letter for letter in byte_letters().values() if letter not in ids]
    ids.update(zip(missing, range(num_tokens, num_tokens + len(missing)), strict=True))
    return bool(missing)


Pairs = list[tuple[str, ...]]


def _model(
    ids: dict[str, int], pairs: Pairs, vocabulary: Vocabulary, whole_words: bool
) -> models.BPE:
    def build(pairs: Pairs) -> models.BPE:
        return models.BPE(ids, cast(list[tuple[str, str]], pairs), ignore_merges=whole_words)

    try:
        return build(pairs)
    except Exception as error:  # the library has no narrower class for it
        usable = _usable(pairs, ids, vocabulary)
        if len(usable) == len(pairs):
            raise FormatError(f"{_FIELD}: {error}", _HINT) from error
        return build(usable)


def _usable(pairs: Pairs, ids: dict[str, int], vocabulary: Vocabulary) -> Pairs:
    """The merges without those of or into control tokens: text must not grow into one.

    Raises FormatError for a merge that needs a token which does not exist. It takes long, so it is
    called only when something is wrong.
    """
    control = set(vocabulary.literal_ids(Kind.CONTROL, Kind.UNKNOWN, Kind.UNUSED))
    usable: Pairs = []
    for number, pair in enumerate(pairs):
        if len(pair) != 2:
            raise FormatError(f"{_FIELD}: merge {number} is no pair: {pair[0][:80]!r}", _HINT)
        needed = {*pair, "".join(pair)}
        # One look-up per token: a difference of sets would walk the whole vocabulary for each merge.
        for token in (each for each in needed if each not in ids and each not in control):
            problem = f"merge {number} needs a token {token[:80]!r}, which does not exist"
            raise FormatError(f"{_FIELD}: {problem}", _HINT)
        if needed.isdisjoint(control):
            usable.append(pair)
    return usable
