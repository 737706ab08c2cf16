"""How a hole is filled: the best token at every place, a draw, the best of several draws, or the best of a beam.

Scores are log-probabilities of the model itself, whatever a constraint leaves out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

from plait.core.errors import UserError
from plait.programs.lm.asking import Asking, Output
from plait.programs.lm.hole import Hole


class Written(NamedTuple):
    """What fills a hole. ids, text: with the hole's lead, and the text that ended it. is_cut: it came to its limit.
    score: sum of the log-probabilities of its tokens and of the token that ended it; None where nobody asked."""

    ids: list[int]
    text: str
    stop: str | None
    is_cut: bool
    score: float | None = None


class Decoder(ABC):
    """Fills one hole."""

    @abstractmethod
    async def write(self, asking: Asking, prompt: list[int], hole: Hole, seed: int) -> Written:
        """prompt: token ids. seed: of this hole; 64 bits."""


@dataclass(frozen=True, slots=True)
class Argmax(Decoder):
    """The most probable token that may come, again and again."""

    async def write(self, asking: Asking, prompt: list[int], hole: Hole, seed: int) -> Written:
        return await _one(asking, prompt, hole, temperature=0.0, seed=seed)


@dataclass(frozen=True, slots=True)
class Sample(Decoder):
    """A draw, with the names of SamplingParams."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0

    async def write(self, asking: Asking, prompt: list[int], hole: Hole, seed: int) -> Written:
        return await _one(asking, prompt, hole, **self.fields, seed=seed)

    @property
    def fields(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("temperature", "top_p", "top_k", "min_p")}


@dataclass(frozen=True, slots=True)
class BestOf(Decoder):
    """Of n draws, which share the prompt, the one with the best mean log-probability per token."""

    n: int
    draw: Sample = Sample()

    def __post_init__(self) -> None:
        check_count("best_of", self.n)

    async def write(self, asking: Asking, prompt: list[int], hole: Hole, seed: int) -> Written:
        params = hole.params(**self.draw.fields, seed=seed, n=self.n, logprobs=0)
        outputs = await asking.generate(prompt, params)
        asking.ledger.asked(len(prompt), sum(len(one.ids) for one in outputs))
        best = max(outputs, key=lambda one: (is_whole(asking, hole, one), _mean(one)))
        return _written(best, sum(entry.token for entry in best.entries))


def argmax() -> Decoder:
    """The most probable token that may come, again and again."""
    return Argmax()


def sample(
    temperature: float = 1.0, *, top_p: float = 1.0, top_k: int = 0, min_p: float = 0.0
) -> Decoder:
    """A draw, with the names of SamplingParams."""
    return Sample(temperature, top_p, top_k, min_p)


def best_of(n: int, temperature: float = 1.0, *, top_p: float = 1.0) -> Decoder:
    """Of n draws the one with the best mean log-probability per token."""
    return BestOf(n, Sample(temperature, top_p))


def is_whole(asking: Asking, hole: Hole, output: Output) -> bool:
    """Whether an answer fits its hole: it ended by itself, or at its limit where it might have ended."""
    if not output.is_cut or hole.structured is None:
        return True
    state = asking.state(hole.params())
    assert state is not None
    state.replay(output.ids)
    return state.is_accepting


def check_count(name: str, n: int) -> None:
    """Raises UserError for what is no number of draws or beginnings."""
    if type(n) is not int or not 1 <= n <= 256:
        raise UserError(f"{name}({n!r})", "a whole number from 1 to 256")


async def _one(asking: Asking, prompt: list[int], hole: Hole, **fields: Any) -> Written:
    (output,) = await asking.generate(prompt, hole.params(**fields))
    asking.ledger.asked(len(prompt), len(output.ids))
    if not is_whole(asking, hole, output):
        raise unfinished(hole, output.text)
    return _written(output)


def _written(output: Output, score: float | None = None) -> Written:
    return Written(output.kept, output.text, output.stop, output.is_cut, score)


def unfinished(hole: Hole, text: str) -> UserError:
    """For an answer that came to its limit before it fitted."""
    return UserError(
        f"after {hole.max_tokens} tokens the answer does not fit its constraint yet: {text!r}",
        "a larger max_tokens, or a constraint that shorter texts fit",
    )


def _mean(output: Output) -> float:
    return sum(entry.token for entry in output.entries) / max(1, len(output.entries))
