"""How probable each of several texts is, exactly: the sums of the log-probabilities of their tokens, normalised.

A text that another one begins with (New, New York) stands for what the model says if it says this and not the longer
one: the probability of the longer ones is taken off. So the choices exclude each other, and what all of them have of
the model's mass is a sum.

The tokens of a choice are those that the tokenizer gives the text before it and the choice together. Where this changes
the last tokens of the text (a space that becomes a part of a word), the model is asked from there on, for all choices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from plait.core.errors import UserError


@dataclass(frozen=True, slots=True)
class Distribution:
    """probabilities: by choice, in their order; they sum to 1. mass: of all choices together, in what the model might
    say, 0 to 1."""

    probabilities: dict[str, float]
    mass: float

    @property
    def best(self) -> str:
        """The most probable choice; of equal ones the first."""
        return max(self.probabilities, key=self.probabilities.__getitem__)

    def __getitem__(self, choice: str) -> float:
        return self.probabilities[choice]


def checked(choices: Sequence[str]) -> list[str]:
    """Raises UserError for what is no list of different texts."""
    is_list = isinstance(choices, Sequence) and not isinstance(choices, str) and len(choices)
    if not is_list or not all(isinstance(one, str) and one for one in choices):
        raise UserError("a distribution needs a list of texts", "at least one, none of them empty")
    if len(set(choices)) < len(choices):
        raise UserError("a distribution over the same text twice", "different texts")
    return list(choices)


def of(
    choices: Sequence[str], ids: Sequence[Sequence[int]], scores: Sequence[float]
) -> Distribution:
    """ids: tokens of each choice. scores: log-probability of each as a beginning of what comes."""
    own = [
        _without_longer(score, [s for other, s in _nearest(place, ids, scores)])
        for place, score in enumerate(scores)
    ]
    total = _log_sum(own)
    if total == -math.inf:
        raise UserError("none of the choices is possible here")
    pairs = zip(choices, own, strict=True)
    return Distribution({one: math.exp(log - total) for one, log in pairs}, math.exp(total))


def _nearest(
    place: int, ids: Sequence[Sequence[int]], scores: Sequence[float]
) -> list[tuple[int, float]]:
    """The choices that begin with this one, without those that begin with another of them."""
    own = list(ids[place])
    longer = [
        other
        for other, tokens in enumerate(ids)
        if len(tokens) > len(own) and list(tokens[: len(own)]) == own
    ]
    return [
        (other, scores[other])
        for other in longer
        if not any(
            len(ids[between]) < len(ids[other])
            and list(ids[other][: len(ids[between])]) == list(ids[between])
            for between in longer
        )
    ]


def _without_longer(score: float, longer: Sequence[float]) -> float:
    """log(exp(score) - sum of exp(longer))."""
    rest = 1.0 - sum(math.exp(other - score) for other in longer)
    return score + math.log(rest) if rest > 0.0 else -math.inf


def _log_sum(values: Sequence[float]) -> float:
    most = max(values)
    if most == -math.inf:
        return most
    return most + math.log(sum(math.exp(value - most) for value in values))
