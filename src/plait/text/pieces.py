"""SentencePiece BPE: any two neighbours whose text together is a token merge, best score first.

Kudo and Richardson, "SentencePiece" (2018), with byte fallback. This is not the BPE of the `tokenizers`
library: there a merge is a pair with a rank of its own, here all pairs that make the same token rank
equal and the leftmost goes first, which matters in every run of spaces or dashes.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Mapping, Sequence
from heapq import heapify, heappop, heappush

from plait.core.errors import FormatError
from plait.text.vocabulary import SPACE, Kind, Vocabulary, byte_of_name

MAX_REMEMBERED = 1 << 16
MAX_REMEMBERED_LENGTH = 32


class ScoreMerger:
    """Text without literal tokens -> ids.

    scores: one per token, the highest merges first. space_prefix: a space is put before the text at the
    start and after every literal token. unknown_id: stands for a byte that has no token.
    Raises FormatError if some bytes have no token and there is no unknown token either.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        scores: Sequence[float],
        *,
        space_prefix: bool,
        unknown_id: int | None,
    ) -> None:
        # No control tokens: text must not grow into one, whatever it says.
        self._ids = vocabulary.literal_ids(Kind.NORMAL, Kind.UNDEFINED, Kind.USER_DEFINED)
        self._scores = array("d", scores)
        self._space_prefix = space_prefix
        self._byte_ids = _byte_ids(vocabulary.literal_ids(Kind.BYTE), unknown_id)
        self._longest = max(map(len, self._ids), default=1)
        self._words = _word_pattern(self._ids)
        self._remembered: dict[str, list[int]] = {}

    def encode(self, text: str, *, after_token: bool) -> list[int]:
        """Ids of a stretch of text. after_token: it starts the text or follows a literal token."""
        prefix = SPACE if self._space_prefix and after_token else ""
        ids: list[int] = []
        for word in self._words.findall(prefix + text.replace(" ", SPACE)):
            ids += self._remembered.get(word) or self._word(word)
        return ids

    def _word(self, word: str) -> list[int]:
        ids: list[int] = []
        ends, start = self._merged(word), 0
        while start < len(word):
            ids += self._symbol(word[start : ends[start]])
            start = ends[start]
        if len(word) <= MAX_REMEMBERED_LENGTH:
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[word] = ids
        return ids

    def _symbol(self, text: str) -> list[int]:
        token_id = self._ids.get(text)
        return [token_id] if token_id is not None else [self._byte_ids[b] for b in text.encode()]

    def _merged(self, word: str) -> list[int]:
        """Where each symbol ends, by its start: the state after all merges.

        A candidate (score, left, right, end) holds while left still ends at right, and right at end.
        """
        size, ids, scores, longest = len(word), self._ids, self._scores, self._longest
        ends = list(range(1, size + 1))
        starts = list(range(-1, size))  # by end
        heap = [
            (-scores[ids[word[at : at + 2]]], at, at + 1, at + 2)
            for at in range(size - 1)
            if word[at : at + 2] in ids
        ]
        heapify(heap)
        while heap:
            _, left, right, end = heappop(heap)
            if ends[left] != right or ends[right] != end:
                continue
            ends[left], ends[right], starts[end] = end, 0, left
            if left:
                before = starts[left]
                if end - before <= longest and (found := ids.get(word[before:end])) is not None:
                    heappush(heap, (-scores[found], before, left, end))
            if end < size:
                after = ends[end]
                if after - left <= longest and (found := ids.get(word[left:after])) is not None:
                    heappush(heap, (-scores[found], left, end, after))
        return ends


def _byte_ids(ids: Mapping[str, int], unknown_id: int | None) -> list[int]:
    found = {byte_of_name(name): token_id for name, token_id in ids.items()}
    if unknown_id is None and len(found) < 256:
        raise FormatError(
            f"tokenizer.ggml.tokens: {256 - len(found)} bytes have no token and there is no unknown"
            " token",
            "such a vocabulary cannot spell every text",
        )
    return [found.get(byte, unknown_id or 0) for byte in range(256)]


def _word_pattern(ids: Mapping[str, int]) -> re.Pattern[str]:
    """Cuts text before spaces where no merge can cross, so that words are merged apart and remembered.

    No merge crosses a place when no token holds the two letters around it; the letters that some token
    holds before a space are the exceptions.
    """
    before_space = set(re.findall(f"([^{SPACE}]){SPACE}", "\0".join(ids))) - {"\0"}
    if not before_space:
        return re.compile(f"{SPACE}*[^{SPACE}]+|{SPACE}+")
    crossing = "".join(map(re.escape, sorted(before_space)))
    return re.compile(f"{SPACE}*(?:[^{SPACE}]+|(?<=[{crossing}]){SPACE}+)+|{SPACE}+")
