"""Token ids to text as they arrive: only what can no longer change is given out."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Iterable, Sequence

from plait.text.stops import StopStrings
from plait.text.tokenizer import Tokenizer


class Detokenizer:
    """Turns one answer's token ids into text, piece by piece.

    The pieces together are `tokenizer.decode` of all ids, cut at the first stop string, however the ids
    are divided among the calls. "First" is the one that is complete first; of several that are complete
    at the same letter, the longest. Held back are bytes of an unfinished character and letters that may
    begin a stop string.

    stop: strings that end the answer; they may begin and end inside tokens. include_stop: keep the stop
    string in the text. skip_special, at_start: as in `Tokenizer.decode`.
    Raises UserError for an empty stop string or too many of them.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        stop: Sequence[str] = (),
        *,
        include_stop: bool = False,
        skip_special: bool = True,
        at_start: bool = False,
    ) -> None:
        self._tokenizer = tokenizer
        self._skipped = tokenizer.special_ids if skip_special else frozenset()
        self._stops = StopStrings(stop)
        self._include_stop = include_stop
        self._drops_space = at_start and tokenizer.space_prefix
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._num_letters = 0
        self._num_tokens = 0
        self._undecided: deque[tuple[int, int]] = deque()
        self.stopped: str | None = None

    @property
    def num_tokens_kept(self) -> int:
        """How many of the first tokens the text was made of, the one that the cut goes through included.

        Without a stop: all. Until `stopped` is set it grows with every push.
        """
        return self._num_tokens

    def push(self, ids: Iterable[int]) -> str:
        """The text that these ids make certain; nothing once `stopped` is set.

        Raises UserError for an id outside the vocabulary.
        """
        pieces = []
        for token_id in ids:
            if self.stopped is not None:
                break
            piece = b"" if token_id in self._skipped else self._tokenizer.token_bytes(token_id)
            self._num_tokens += 1
            if piece:
                self._undecided.append((self._first_letter(piece), self._num_tokens))
                pieces.append(self._read(self._decoder.decode(piece)))
        return "".join(pieces)

    def finish(self) -> str:
        """The rest of the text. Bytes that never became a character are U+FFFD."""
        if self.stopped is not None:
            return ""
        text = self._read(self._decoder.decode(b"", final=True))
        rest, self._held = self._held, ""
        return text + ("" if self.stopped is not None else rest)

    def _first_letter(self, piece: bytes) -> int:
        """Which letter of the text the first byte of a piece belongs to."""
        unfinished = self._decoder.getstate()[0]
        if not unfinished:
            return self._num_letters
        probe = codecs.getincrementaldecoder("utf-8")("replace")
        made = len(probe.decode(unfinished + piece[:1])) + bool(probe.getstate()[0])
        return self._num_letters + (made > 1)

    def _read(self, text: str) -> str:
        """Take decoded text; returns what has become certain."""
        if self._drops_space and text:
            self._drops_space, text = False, text.removeprefix(" ")
        held = self._held + text
        for place, letter in enumerate(text, len(self._held) + 1):
            self._num_letters += 1
            if (found := self._stops.read(letter)) is not None:
                return self._cut(held, place, found)
        certain = len(held) - self._stops.num_undecided
        self._held = held[certain:]
        self._forget(self._num_letters - len(self._held))
        return held[:certain]

    def _cut(self, held: str, place: int, stop: str) -> str:
        """The stop string ends after `place` letters of `held`."""
        self.stopped, self._held = stop, ""
        kept = place if self._include_stop else place - len(stop)
        num_kept = self._num_letters - place + kept
        inside = [number for first, number in self._undecided if first < num_kept]
        self._num_tokens = inside[-1] if inside else 0
        return held[:kept]

    def _forget(self, num_certain: int) -> None:
        """Drop the places of tokens that no cut can take away any more, all but the last of them."""
        while len(self._undecided) > 1 and self._undecided[1][0] < num_certain:
            self._undecided.popleft()
