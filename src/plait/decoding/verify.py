"""Sample as `sample` does, and keep of a draft what that comes to: lossless, token for token, whatever is drafted.

A row behind a drafted token is only worth something if the token is right. So the rows are decided from the last
token of the canvas on: each chooses as plain decoding would, with the random number of (seed, position) and the
history along its branch; as long as the choice was drafted, the row behind it decides next. The last choice
was drafted by nobody, so a verified window always writes one token more than was accepted.

**Why this is speculative sampling** (arXiv:2211.17192, arXiv:2302.01318). For a draft of tokens, not of a
distribution, the rejection rule accepts token x with the model's probability p(x), and else draws from what is
left, p without x renormalised. One draw from p that is compared with x is exactly that, and with several children
no rule accepts more often. Done with the random number that plain decoding would use, the answer is even the same.

**Branches.** The first branch lies in the slots that plain decoding would use, and its rows are the same bits. A row of
another branch adds up the same numbers in another order, which can change the last bits of a logit, and with them
the better of two tokens that are all but equal. So such a row is believed only where its best logit leads by
`LEAD`; the path ends where it does not, and the next window decides from exact K/V.
"""

from __future__ import annotations

import numpy as np

from plait.core.sequence import Sequence
from plait.core.traits import Traits
from plait.core.window import Floats, Ints, Update, Window
from plait.decoding import base, rows
from plait.decoding.base import Item, Rows, split
from plait.decoding.base import Options as Options
from plait.kernels import sampling

LEAD = 0.5
"""In logits; rounding moves them by less than a tenth of this, with int8 activations too."""

SUMMARY = "sample, and keep what was drafted if it is the same"


class Decoder(base.Decoder):
    """For the planner 'speculative'; without a draft it is `sample`."""

    constrains = True
    verifies = True

    def best(self, seq: Sequence, window: Window) -> int:
        best = rows.best_needed(seq, window.targets, self.traits)
        return best + 1 if best and window.positions is not None else best

    def decide_all(self, items: list[Item]) -> list[Update | Exception]:
        asks = [_asks(item, self.traits) for item in items]
        answers = iter(sampling.answer([ask for own in asks for ask in own], self.threads))
        updates: list[Update | Exception] = []
        for item, own in zip(items, asks, strict=True):
            answer = [next(answers) for _ in own]
            if len(item.window.parents) and any(isinstance(a, FloatingPointError) for a in answer):
                # Of a row behind a refused draft nobody needs to know.
                answer = sampling.answer(_asks(item, self.traits, apart=True), self.threads)
            updates.append(self._update(item, answer))
        return updates

    def path(self, item: Item, chosen: list[int]) -> list[int]:
        """The rows that decide, one after the other; chosen: what each would write by itself."""
        return _path(item, chosen)

    def _update(
        self, item: Item, answers: list[sampling.Choices | FloatingPointError]
    ) -> Update | Exception:
        chosen: list[int] = []
        broken: dict[int, FloatingPointError] = {}
        for answer in answers:
            if isinstance(answer, FloatingPointError):
                broken[len(chosen)] = answer
            chosen += (
                [_BROKEN] if isinstance(answer, FloatingPointError) else answer.tokens.tolist()
            )
        part, is_drafted = split(item), bool(len(item.window.parents))
        if broken and not is_drafted:
            return broken[0]
        try:
            scored = rows.scored_logprobs(part) if len(part.scored) else {}
            if not chosen:
                return Update(logprobs=scored)
            path = self.path(item, chosen) if is_drafted else list(range(len(chosen)))
            if path[-1] in broken:
                return broken[path[-1]]
            written = _written(item, path, chosen) if is_drafted else chosen
            targets, tokens = part.targets[path], np.array(written, np.int32)
            masks = None if part.masks is None else part.masks[path]
            logprobs = rows.written_logprobs(part.logits[path], part.seq, targets, tokens, masks)
        except FloatingPointError as error:
            return error
        accepted = _kept(path) if is_drafted else 0
        return Update(targets, tokens, accepted=accepted, logprobs={**scored, **logprobs})


_BROKEN = -1
"""What a row of no numbers chooses; no token."""


def _asks(item: Item, traits: Traits, *, apart: bool = False) -> list[sampling.Choices]:
    """One for all rows, or one for each where a choice depends on the tokens drafted before it. apart: one for each."""
    part = split(item)
    if not (len(item.window.parents) and (apart or part.seq.params.has_penalties)):
        return [rows.ask(part, traits)]
    return [
        rows.ask(_row(part, place), traits, drafted=_branch(item.window, place))
        for place in range(len(part.targets))
    ]


def _row(part: Rows, place: int) -> Rows:
    one = slice(place, place + 1)
    masks = None if part.masks is None else part.masks[one]
    return part._replace(logits=part.logits[one], targets=part.targets[one], masks=masks)


def _branch(window: Window, place: int) -> Ints:
    """The drafted tokens from the canvas to a row, 0 being the last row before the draft."""
    assert window.tokens is not None
    drafted = window.tokens[window.length - len(window.parents) :]
    found: list[int] = []
    while place:
        found.append(int(drafted[place - 1]))
        place = int(window.parents[place - 1])
    return np.array(found[::-1], np.int32)


def drafted_tokens(item: Item) -> list[int]:
    """Those behind the canvas; the row i > 0 of those wanted is that of the i-th."""
    window = item.window
    assert window.tokens is not None
    drafted: list[int] = window.tokens[window.length - len(window.parents) :].tolist()
    return drafted


def _written(item: Item, path: list[int], chosen: list[int]) -> list[int]:
    """What a path writes: the drafted tokens that it went by, then what its last row chose."""
    drafted = drafted_tokens(item)
    return [*(drafted[place - 1] for place in path[1:]), chosen[path[-1]]]


def _kept(path: list[int]) -> int:
    """Drafted rows of the path that lie in the slots of their positions."""
    return sum(place == depth for depth, place in enumerate(path)) - 1


def _leads(row: Floats, token: int) -> bool:
    """Whether the best logit is far enough ahead of all others."""
    others = max(row[:token].max(initial=-np.inf), row[token + 1 :].max(initial=-np.inf))
    return bool(row[token] - others >= LEAD)


def _path(item: Item, chosen: list[int]) -> list[int]:
    """The rows that decide, one after the other."""
    window, drafted = item.window, drafted_tokens(item)
    children = {
        (parent, token): place
        for place, (parent, token) in enumerate(
            zip(window.parents.tolist(), drafted, strict=True), 1
        )
    }
    path = [0]
    while (place := children.get((path[-1], chosen[path[-1]]))) is not None:
        if place != len(path) and not _leads(item.logits[place], chosen[place]):
            break
        path.append(place)
    return path
