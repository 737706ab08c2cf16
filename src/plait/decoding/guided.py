"""Proposals for the open places of a canvas that fit a grammar together: whichever of them are written, the rest can
still be completed.

A canvas is decided in any order, so what is written stands between holes, and no mask says what may stand there. So a
request keeps a *witness*: tokens for all open places, in exactly their number (or up to an earlier end), that fit the
grammar together with everything that stands. Each step looks for one that the model likes better: from the first open
place on, one place after the other, a token is chosen among those that may follow the ones before it, as any other would
be (seed, temperature, filters); and what was chosen is kept as far as a completion is found for it (grammar/completing.py),
if need be one with other tokens in the end. If none is found the witness stays. The decoder then chooses *which* places to
write, by confidence, as it always does; it always writes what the witness holds there, so the witness agrees.

The confidence of a proposal is the larger of two: the model's own probability of the token, whatever the grammar says,
which is all that counts far behind the first hole; and the probability that all places from the first hole up to here
come out as proposed, among the tokens that may come, which is what counts of the beginning: where a grammar leaves a
single token, it is sure as soon as all before it are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from plait.core.errors import UserError
from plait.core.places import WITNESS, Effort, Guide, Hint, Places, Witness, places
from plait.decoding.base import Item, Rows, Walk
from plait.kernels import sampling

STEP_EFFORT = 384
"""Tokens that the completions of a step may try."""
EFFORT, PLACE_EFFORT = 8192, 64
"""Of a request, and as many more for each place of its answer; then its witness is changed no more."""
REACH = 64
"""Places that a step chooses anew; behind them the witness stands, or what completes the beginning."""
_BEST = 8


class _Begun(NamedTuple):
    """A beginning that the model likes. chances: that it comes out like this up to each place. is_whole: it needs no
    completion."""

    tokens: list[int]
    chances: list[float]
    is_whole: bool


Ask = Callable[[Rows], sampling.Choices]
"""How a token is chosen: `rows.ask`, with confidence."""


def propose(item: Item, part: Rows, ask: Ask) -> tuple[Rows, sampling.Choices, Witness]:
    """The open rows up to the end of the answer, what is proposed for them, and the witness that it is from. Raises
    FloatingPointError."""
    walk, guide, seq = item.walk, item.guide, part.seq
    assert walk is not None
    assert guide is not None
    own = _Proposal(part, walk, guide, places(seq), ask)
    old = seq.scratch[WITNESS]
    most = EFFORT + PLACE_EFFORT * (seq.limit - seq.prompt_length)
    effort = Effort(max(0, min(STEP_EFFORT, most - old.effort)))
    begun, before = own.begun(), effort.left
    tokens = own.completed(begun, list(old.after(seq.final)), effort)
    witness = Witness(seq.final, tuple(tokens), old.effort + before - effort.left)
    return *_choices(part, own.places.first, tokens, begun, ask), witness


def _choices(
    part: Rows, first: int, tokens: list[int], begun: _Begun, ask: Ask
) -> tuple[Rows, sampling.Choices]:
    count = int(np.searchsorted(part.targets, first + len(tokens)))
    part = part._replace(logits=part.logits[:count], targets=part.targets[:count])
    offsets = part.targets - first
    chosen = np.array(tokens, np.int32)[offsets]
    own = sampling.token_logprobs(part.logits, chosen, 0)
    chances = np.zeros(len(tokens))
    for place, (own_token, token) in enumerate(zip(begun.tokens, tokens, strict=False)):
        if own_token != token:
            break
        chances[place] = begun.chances[place]
    choices = ask(part)
    choices.tokens[:] = chosen
    choices.confidence[:] = np.maximum(np.exp([each.token for each in own]), chances[offsets])
    return part, choices


class _Proposal:
    """Of one request in one step."""

    def __init__(self, part: Rows, walk: Walk, guide: Guide, at: Places, ask: Ask) -> None:
        self._part, self._walk, self._guide, self._ask = part, walk, guide, ask
        self.places = at
        self._row_of = {position: row for row, position in enumerate(part.targets.tolist())}
        self._known_hints: dict[int, Hint] = {}

    def begun(self) -> _Begun:
        """What the model would write from the first open place on."""
        state, mask = self._walk.fork(), self._guide.blank()
        tokens: list[int] = []
        chances: list[float] = []
        chance = 1.0
        for position, known in enumerate(self.places.known[:REACH], self.places.first):
            found = self._token(position, known, state, mask)
            if found is None:
                break
            tokens.append(found[0])
            chance *= found[1]
            chances.append(chance)
            if state.is_finished:
                return _Begun(tokens, chances, is_whole=True)
        is_whole = len(tokens) == len(self.places.known) and state.is_accepting
        return _Begun(tokens, chances, is_whole)

    def completed(self, begun: _Begun, old: list[int], effort: Effort) -> list[int]:
        """A witness that begins as far as can be like this; the old one at worst."""
        if begun.is_whole:
            return begun.tokens
        hints = self._hint if self.places.last >= self.places.first else None
        for count in _cuts(len(begun.tokens)):
            tokens = begun.tokens[:count]
            if tokens == old[:count]:
                return old
            state = self._walk.fork()
            if state.replay(tokens) < count:
                continue
            if self._goes_on(state, old, count, effort):
                return tokens + old[count:]
            part = effort.part(4)
            found = self._guide.complete(state, self.places.behind(count), part, hints)
            effort.join(part)
            if found is not None:
                return tokens + found
        return old

    def _token(
        self, position: int, known: int | None, state: Walk, mask: NDArray[np.uint32]
    ) -> tuple[int, float] | None:
        """The token of a place, and how sure the model is of it; the state goes on by it. None: the walk ends here."""
        token, sure, may_end = known, 1.0, self.places.may_end(position)
        try:
            if token is None:
                if position not in self._row_of:
                    return None
                state.fill(mask)
                if not may_end:
                    self._guide.without_end(mask)
                if not mask.any():
                    return None
                token, sure = self._choose(self._row_of[position], mask)
            if not state.advance(token) or (state.is_finished and not may_end):
                return None
        except UserError:  # it takes too much
            return None
        return token, sure

    def _choose(self, row: int, mask: NDArray[np.uint32]) -> tuple[int, float]:
        one = slice(row, row + 1)
        part = self._part
        own = part._replace(logits=part.logits[one], targets=part.targets[one], masks=mask[None])
        (choices,) = sampling.answer([self._ask(own)])
        if isinstance(choices, FloatingPointError):
            raise choices
        return choices.tokens.item(0), choices.confidence.item(0)

    def _goes_on(self, state: Walk, old: list[int], count: int, effort: Effort) -> bool:
        """Whether what is left of the old witness behind `count` places completes another beginning."""
        twin = state.fork()
        replayed = twin.replay(old[count:])
        effort.left -= replayed
        is_end = len(old) == len(self.places.known) and twin.is_accepting
        return replayed == len(old) - count and (twin.is_finished or is_end)

    def _hint(self, position: int) -> Hint | None:
        row = self._row_of.get(position)
        if row is None:
            return None
        if position not in self._known_hints:
            logits = self._part.logits[row : row + 1]
            (best,) = sampling.token_logprobs(logits, np.zeros(1, np.int32), _BEST)
            self._known_hints[position] = Hint(logits[0], list(best.top))
        return self._known_hints[position]


def _cuts(count: int) -> list[int]:
    """How much of a beginning is kept: all, or ever less."""
    return [count, *(count - 2**i for i in range(count.bit_length()) if count > 2**i), 0]
