"""Beam search: the n most probable beginnings go on, until each of them has ended.

At every step each open beginning is asked for its best next tokens, which costs a forward of one token: what comes
before it lies in the cache. Ended ones keep their place as long as their score does. With n beginnings or more in all
that fit, the answer is the most probable of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from plait.grammar.base import State
from plait.programs.lm.asking import Asking, Output, together
from plait.programs.lm.decoders import Decoder, Written, check_count, unfinished
from plait.programs.lm.hole import Hole
from plait.text.detokenize import Detokenizer


@dataclass(frozen=True, slots=True)
class _Path:
    """tokens: of the answer, without one that only ended it. state: in the grammar. stop: text that ended it."""

    tokens: tuple[int, ...] = ()
    score: float = 0.0
    state: State | None = None
    text: str = ""
    stop: str | None = None
    is_ended: bool = False
    is_cut: bool = False

    @property
    def fits(self) -> bool:
        return not self.is_cut or self.state is None or self.state.is_accepting


@dataclass(frozen=True, slots=True)
class Beam(Decoder):
    """n: beginnings that are kept."""

    n: int

    def __post_init__(self) -> None:
        check_count("beam", self.n)

    async def write(self, asking: Asking, prompt: list[int], hole: Hole, seed: int) -> Written:
        paths, count = [_Path(state=asking.state(hole.params()))], 0
        while any(not path.is_ended for path in paths):
            is_open = [path for path in paths if not path.is_ended]
            count += len(is_open)
            outputs = await together([self._next(asking, prompt, hole, one) for one in is_open])
            found = [path for path in paths if path.is_ended]
            for path, output in zip(is_open, outputs, strict=True):
                found += _children(asking, hole, path, output)
            paths = _best(found, self.n)
        asking.ledger.asked(len(prompt), count)
        best = max(paths, key=lambda path: (path.fits, path.score))
        if not best.fits:
            raise unfinished(hole, best.text)
        return Written(list(best.tokens), best.text, best.stop, best.is_cut, best.score)

    async def _next(self, asking: Asking, prompt: list[int], hole: Hole, path: _Path) -> Output:
        """One token more, with the best that may come instead."""
        width = self.n + len(asking.llm.traits.eos_ids)
        params = replace(hole.params(temperature=0.0, stop=()), min_tokens=0, max_tokens=1)
        params = replace(params, logprobs=width)
        ids = [*prompt, *path.tokens]
        (output,) = await asking.generate(ids, params, answered=len(path.tokens))
        return output


def beam(n: int) -> Decoder:
    """The most probable answer that a beam of n beginnings finds."""
    return Beam(n)


def _children(asking: Asking, hole: Hole, path: _Path, output: Output) -> Iterator[_Path]:
    (entry,) = output.entries
    values = {output.ids[0]: entry.token, **entry.top}
    for token, value in values.items():
        child = _child(asking, hole, path, token, path.score + value)
        if child is not None:
            yield child


def _child(asking: Asking, hole: Hole, path: _Path, token: int, score: float) -> _Path | None:
    ended = replace(path, score=score, is_ended=True)
    if token in asking.llm.traits.eos_ids:
        return ended if len(path.tokens) >= hole.min_tokens else None
    state = None
    if path.state is not None:
        state = path.state.fork()
        if not state.advance(token):
            return None
        if state.is_closed:
            return ended
    tokens = (*path.tokens, token)
    reader = Detokenizer(asking.llm.tokenizer, hole.stops, include_stop=True)
    text = reader.push(tokens)
    text += reader.finish()
    over = reader.stopped is not None or (state is not None and state.is_finished)
    is_cut = not over and len(tokens) >= hole.max_tokens
    return _Path(tokens, score, state, text, reader.stopped, over or is_cut, is_cut)


def _best(found: list[_Path], n: int) -> list[_Path]:
    """The n with the best scores; of those that end the same text one."""
    kept: dict[tuple[tuple[int, ...], bool], _Path] = {}
    for path in sorted(found, key=lambda path: -path.score):
        kept.setdefault((path.tokens, path.is_ended), path)
    return list(kept.values())[:n]
