"""Typical acceptance of drafts (Medusa, arXiv:2401.10774). **Lossy**: the answer is not that of plain decoding.

Where `verify` takes a drafted token only if it is what plain decoding would have chosen, this also takes one that is
plausible enough: with p the distribution that the request samples from and H its entropy in nats,

    p(token) > min(threshold, factor * exp(-H))

so nearly anything is taken where the model could go on in many ways. What is drafted then becomes a part of what is
said: answers lean towards the proposer, and depend on how much is drafted, so that a seed fixes them no longer. At
temperature 0, and for requests with penalties, logit_bias or typical_p, drafts are verified exactly. Behind the last
token that is taken comes one of the model's own choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plait.core.errors import UserError
from plait.core.params import SamplingParams
from plait.core.sequence import Sequence
from plait.core.window import Floats, Window
from plait.decoding import verify
from plait.decoding.base import Item

SUMMARY = "lossy: keep what was drafted if it is plausible, not only if it is the same"


@dataclass(frozen=True, slots=True)
class Options:
    """threshold, factor: see the module's text."""

    threshold: float = 0.09
    factor: float = 0.3

    def __post_init__(self) -> None:
        for name in ("threshold", "factor"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise UserError(
                    f"{name}={getattr(self, name)!r} is out of range", "above 0, at most 1"
                )


class Decoder(verify.Decoder):
    """For the planner 'speculative'; without a draft it is `sample`."""

    options: Options

    @property
    def threshold(self) -> float | None:
        return None  # it is no confidence

    def is_lossy(self, params: SamplingParams) -> bool:
        return not (
            params.is_greedy or params.has_penalties or params.logit_bias or params.typical_p < 1
        )

    def best(self, seq: Sequence, window: Window) -> int:
        needs_all = len(window.parents) and self.is_lossy(seq.params)
        return 0 if needs_all else super().best(seq, window)

    def path(self, item: Item, chosen: list[int]) -> list[int]:
        if not self.is_lossy(item.seq.params):
            return super().path(item, chosen)
        drafted, parents = verify.drafted_tokens(item), item.window.parents.tolist()
        path = [0]
        while True:
            row = path[-1]
            tokens = {drafted[p - 1]: p for p, parent in enumerate(parents, 1) if parent == row}
            taken = tokens.get(chosen[row]) or self._plausible(item, row, tokens)
            if not taken:
                return path
            path.append(taken)

    def _plausible(self, item: Item, row: int, tokens: dict[int, int]) -> int | None:
        """The row of the likeliest drafted token that is taken behind a row, if any is."""
        logits = item.logits[row]
        if item.masks is not None:
            is_allowed = np.unpackbits(item.masks[row].view(np.uint8), bitorder="little")
            logits = np.where(is_allowed[: len(logits)], logits, np.float32(-np.inf))
        p = shaped(logits, item.seq.params)
        for token in self._impossible(item, row):
            p[token] = 0.0
        logs = np.log(p, out=np.zeros_like(p), where=p > 0)
        least = min(self.options.threshold, self.options.factor * float(np.exp((p * logs).sum())))
        best = max(tokens, key=lambda token: float(p[token]), default=None)
        return tokens[best] if best is not None and p[best] > least else None

    def _impossible(self, item: Item, row: int) -> list[int]:
        """Ids that may not stand where a row decides."""
        seq, traits = item.seq, self.traits
        mask = [] if traits.mask_token is None else [traits.mask_token]
        is_early = int(item.window.targets[row]) < seq.prompt_length + seq.params.min_tokens
        stops = seq.params.stop_ids(traits.eos_ids) if is_early else frozenset()
        return [*mask, *(i for i in stops if i < traits.vocab_size)]


def shaped(logits: Floats, params: SamplingParams) -> NDArray[np.float64]:
    """What a request without penalties samples from, [vocabulary]: temperature, top_k, top_p, min_p, in this order."""
    scores = logits.astype(np.float64) / params.temperature
    if 0 < params.top_k < len(scores):
        scores[scores < np.partition(scores, -params.top_k)[-params.top_k]] = -np.inf
    p = np.exp(scores - scores.max())
    p /= p.sum()
    if params.top_p < 1:
        order = np.argsort(-p, kind="stable")
        before = np.cumsum(p[order]) - p[order]
        p[order[before >= params.top_p]] = 0.0
    p[p < params.min_p * p.max()] = 0.0
    return np.asarray(p / p.sum())
