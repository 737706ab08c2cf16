"""Completions: tokens for the open places of a canvas, between those that stand, so that the whole fits a grammar.

A grammar can tell exactly what may follow a beginning. Whether a beginning can be completed in a given number of places,
some of them taken, it cannot; that has to be searched for. The search goes from left to right, one place after the
other, with several states at once (a beam). Of states with the same mask only one is kept, since they mostly go on
alike: within a string all letters lead to the same place, and what is left over is where the structure differs. So it is
wide in what matters, takes time linear in the places, and is cut off by an `Effort`. It may miss a completion; what it
finds is one.

Which tokens are tried: first those that a model favours, where there is one to ask; then such as close what is open;
then, by their first byte, the shortest and the longest. First with a single state, which is enough where nothing stands
behind the open places, then with more and more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from plait.core.errors import UserError
from plait.core.places import Effort, Guide, Hints, Places
from plait.grammar.base import Lexicon, State, Words, bits

WIDTHS: Final = ((1, 6), (4, 12), (16, 48), (32, 640))
"""States kept at a place, and tokens tried of each."""
SHARES: Final = (1, 2, 4, 8)
"""Of what is left of the effort, how much at least is for the width of the same place, 1 / share."""
FAILURE: Final = 32
"""What a state counts that the library gives up on: it has done as much work as it may."""
FIRST: Final = b"\"'}])>;.\n,:|=0123456789"
LAST: Final = b"\\ \t\r{[(<"
"""Bytes that rather close than open, and those that rather lead on."""
_SPARSE = 64
_COMMON = 1024
_MOST_LEADS = 4096


class _Node:
    """A state at a place, and how it came there."""

    __slots__ = ("mask", "parent", "score", "state", "token")

    def __init__(
        self,
        state: State,
        mask: Words,
        parent: _Node | None = None,
        token: int = -1,
        score: float = 0.0,
    ) -> None:
        self.state, self.mask, self.parent, self.token, self.score = (
            state,
            mask,
            parent,
            token,
            score,
        )

    def path(self) -> list[int]:
        tokens: list[int] = []
        node = self
        while node.parent is not None:
            tokens.append(node.token)
            node = node.parent
        return tokens[::-1]


class Completer(Guide):
    """For the grammars of one tokenizer. Reads its vocabulary when it is first asked."""

    def __init__(
        self, lexicon: Callable[[], Lexicon], eos_ids: frozenset[int], num_words: int
    ) -> None:
        """num_words: of a mask."""
        self._lexicon = lexicon
        self.eos_ids = sorted(eos_ids)
        self._num_words = num_words
        self._ranks: NDArray[np.int32] | None = None
        self._common: NDArray[np.int32] = np.zeros(0, np.int32)

    def complete(
        self, state: State, places: Places, effort: Effort, hints: Hints | None = None
    ) -> list[int] | None:
        if self._ranks is None:
            self._ranks, self._common = _ranked(self._lexicon(), 32 * self._num_words)
        if not places.known:
            return [] if state.is_accepting else None
        for (width, tries), share in zip(WIDTHS, reversed(SHARES), strict=True):
            own = effort.part(share)
            found = _Search(self, places, own, hints or _no_hint, width, tries).run(state)
            effort.join(own)
            if found is not None:
                return found
        return None

    def without_end(self, mask: Words) -> None:
        """Take the tokens that end an answer from a mask."""
        for token in self.eos_ids:
            if token < 32 * len(mask):
                mask[token // 32] &= ~np.uint32(1 << token % 32)

    def tried(self, mask: Words, most: int, *, may_end: bool) -> list[int]:
        """Tokens of a mask in the order in which they are tried, `most` of text at most."""
        assert self._ranks is not None
        words = np.flatnonzero(mask)
        if len(words) <= _SPARSE:
            inside = bits(mask[words])
            found = np.array([32 * int(words[i // 32]) + i % 32 for i in inside], np.int32)
        else:
            common = self._common
            found = common[
                (mask[common >> 5] >> (common & 31).astype(np.uint32)) & np.uint32(1) > 0
            ]
        ranks = self._ranks[found]
        order = np.argsort(ranks, kind="stable")[:most]
        texts: list[int] = found[order[ranks[order] < _NEVER]].tolist()
        return (self.ends(mask) if may_end else []) + texts

    def ends(self, mask: Words) -> list[int]:
        """A token of a mask that ends the answer, if there is one."""
        bit = np.uint32(1)
        return [t for t in self.eos_ids if mask[t // 32] >> np.uint32(t % 32) & bit][:1]

    def blank(self) -> Words:
        """A mask to fill."""
        return np.empty(self._num_words, np.uint32)


_NEVER = np.iinfo(np.int32).max


def _no_hint(_: int) -> None:
    """Nobody is asked."""


class _Search:
    """One walk over the places with a beam."""

    def __init__(
        self,
        completer: Completer,
        places: Places,
        effort: Effort,
        hints: Hints,
        width: int,
        tries: int,
    ) -> None:
        self._completer, self._places, self._effort = completer, places, effort
        self._hints, self._width, self._tries = hints, width, tries
        self._leads: dict[int, list[int]] = {}

    def run(self, state: State) -> list[int] | None:
        try:
            nodes = [self._node(state.fork())]
        except UserError:  # it takes too much
            return None
        for offset in range(len(self._places.known)):
            found = self._next(nodes, offset)
            if isinstance(found, _Node):
                return found.path()
            if not found:
                return None
            nodes = found
        return None

    def _next(self, nodes: list[_Node], offset: int) -> list[_Node] | _Node:
        """The states behind a place, or the one with which the answer is complete."""
        position = self._places.first + offset
        is_last = offset + 1 == len(self._places.known)
        hint = self._hints(position)
        lists = [self._tokens(node, offset) for node in nodes]
        leads: list[dict[int, int]] = [{} for _ in nodes]
        found: dict[bytes, _Node] = {}
        for rank in range(max(map(len, lists))):
            for node, tokens, own in zip(nodes, lists, leads, strict=True):
                if rank >= len(tokens):
                    continue
                child = self._child(node, tokens[rank])
                if child is None:
                    continue
                if child.state.is_finished or (is_last and child.state.is_accepting):
                    own[-1 - len(own)] = tokens[rank]
                    if self._places.may_end(position):
                        return child
                    continue
                if hint is not None:
                    child.score = node.score + float(hint.scores[tokens[rank]])
                key = child.mask.tobytes()
                own.setdefault(hash(key), tokens[rank])
                if key not in found or hint is not None and child.score > found[key].score:
                    found[key] = child
                if hint is None and len(found) == self._width:
                    return [*found.values()]
        if hint is None and self._places.known[offset] is None:
            self._note(nodes, leads)
        kept = (
            sorted(found.values(), key=lambda node: -node.score)
            if hint is not None
            else [*found.values()]
        )
        return kept[: self._width]

    def _note(self, nodes: list[_Node], leads: list[dict[int, int]]) -> None:
        """Which tokens led somewhere, of states all of whose tokens were tried: elsewhere the others need no try."""
        if self._effort.left > 0 and len(self._leads) < _MOST_LEADS:
            for node, own in zip(nodes, leads, strict=True):
                self._leads.setdefault(hash(node.mask.tobytes()), [*own.values()])

    def _tokens(self, node: _Node, offset: int) -> list[int]:
        known = self._places.known[offset]
        if known is not None:
            return [known]
        position = self._places.first + offset
        is_free = self._places.may_end(position)
        hint = self._hints(position)
        known_leads = self._leads.get(hash(node.mask.tobytes())) if hint is None else None
        if known_leads is not None:
            ends = self._completer.ends(node.mask) if is_free else []
            return [*dict.fromkeys([*ends, *known_leads])]
        usual = self._completer.tried(node.mask, self._tries, may_end=is_free)
        if hint is None:
            return usual
        barred = () if is_free else self._completer.eos_ids
        mask = node.mask
        fitting = [
            t for t in hint.best if mask[t // 32] >> np.uint32(t % 32) & 1 and t not in barred
        ]
        return [*dict.fromkeys([*fitting, *usual])]

    def _child(self, node: _Node, token: int) -> _Node | None:
        if self._effort.left <= 0:
            return None
        self._effort.left -= 1
        state = node.state.fork()
        try:
            return self._node(state, node, token) if state.advance(token) else None
        except UserError:
            self._effort.left -= FAILURE
            return None

    def _node(self, state: State, parent: _Node | None = None, token: int = -1) -> _Node:
        mask = self._completer.blank()
        if not state.is_finished:
            state.fill(mask)
        return _Node(state, mask, parent, token, 0.0 if parent is None else parent.score)


def _ranked(lexicon: Lexicon, count: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """In which order tokens are tried, int32 [count]: of every first byte the shortest, then the longest, the one
    before, ...; `_NEVER` for what is no text. And those that come first, with every byte among them."""
    groups: dict[int, list[tuple[int, int]]] = {}
    for token, spelt in enumerate(lexicon.vocabulary()[:count]):
        if spelt and token not in lexicon.special_ids:
            groups.setdefault(spelt[0], []).append((len(spelt), token))
    ordered: list[tuple[int, int, int]] = []
    for byte, group in groups.items():
        by_length = [token for _, token in sorted(group)]
        tokens: Sequence[int] = [by_length[0], *reversed(by_length[1:])]
        ordered += [(place, _byte_rank(byte), token) for place, token in enumerate(tokens)]
    ordered.sort()
    ranks = np.full(count, _NEVER, np.int32)
    sorted_ids = np.array([token for *_, token in ordered], np.int32)
    ranks[sorted_ids] = np.arange(len(sorted_ids), dtype=np.int32)
    return ranks, sorted_ids[:_COMMON]


def _byte_rank(byte: int) -> int:
    if byte in FIRST:
        return FIRST.index(byte)
    return 0x200 + LAST.index(byte) if byte in LAST else 0x100 + byte
