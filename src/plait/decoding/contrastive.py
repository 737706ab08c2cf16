"""Contrastive decoding: what a worse reader of the prompt would say as well counts less.

A second stream goes along with the request: the same model behind a prompt that says less, or another model, the
amateur, behind the same prompt. With p and q the two distributions of the next token, over V tokens:

    gate      the model is sure where sqrt(V) times the standard deviation of p over the vocabulary is above
              `uncertainty`; there the request's own logits count, untouched. (It is 1 where all lies on one token, 0
              where all are equal; USCD's own code has the deviation above 0.005 with 32,016 tokens, which is 0.895.)
    allowed   tokens with p at least `floor` / V and at least `head` times the best one's
    mix       probabilities: log(p - strength q) (USCD, arXiv:2409.05923, as in its published code)
              logits: (1 + strength) log p - strength log q (arXiv:2309.09117)

and the others are impossible. A row that would leave nothing stays as it is. Penalties and filters act on what comes
out; log-probabilities that a request asks for are those of the model itself.

With strength 0 there is no second stream: plain decoding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plait.core.aids import Aids
from plait.core.errors import UserError
from plait.core.window import Floats, Ints, Update
from plait.decoding import base, rows
from plait.decoding.base import Item
from plait.decoding.degrade import without_examples

SUMMARY = "a wrapper: takes off what a worse prompt or a weaker model says as well"

MIXES = ("probabilities", "logits")


@dataclass(frozen=True, slots=True)
class Options:
    """The second stream reads one of: negative_prompt: this text, control tokens in it read as such. keep: the last so
    many tokens of the prompt. amateur: the prompt, by this model, which is loaded beside the engine's own when the
    engine starts. None of them: the prompt without its examples of inputs and outputs (lines with >>>).

    strength, uncertainty, floor, head, mix: see the module's text.
    """

    strength: float = 0.7
    uncertainty: float = 0.895
    floor: float = 0.667
    head: float = 0.0
    mix: str = "probabilities"
    negative_prompt: str = ""
    keep: int = 0
    amateur: str = ""

    def __post_init__(self) -> None:
        for name, most in (
            ("strength", 100.0),
            ("uncertainty", 1.0),
            ("floor", 1e6),
            ("head", 1.0),
        ):
            if not 0.0 <= getattr(self, name) <= most:
                value = getattr(self, name)
                raise UserError(f"{name}={value!r} is out of range", f"from 0 to {most:g}")
        if self.mix not in MIXES:
            raise UserError(f"mix={self.mix!r} is not known", f"one of: {', '.join(MIXES)}")
        if self.keep < 0:
            raise UserError(f"keep={self.keep} is out of range", "a number of tokens")
        given = [n for n in ("negative_prompt", "keep", "amateur") if getattr(self, n)]
        if len(given) > 1:
            raise UserError(f"{' and '.join(given)} are given", "one of them")


class Decoder(base.Wrapper):
    """Lets the inner decoder decide over what is left of the logits."""

    default_inner = "sample"
    contrasts = True
    options: Options

    def equip(self, aids: Aids) -> None:
        super().equip(aids)
        name = self.options.amateur
        if name and (aids.amateur is None or aids.amateur_name != name):
            raise UserError(
                f"the amateur {name!r} is not loaded",
                f"the engine has to be started with --decoder contrastive --option amateur={name}",
            )

    def second_prompt(self, prompt: Ints) -> Ints | None:
        options = self.options
        if options.amateur or not options.strength:
            return None
        if options.keep:
            return _fewer(prompt[-options.keep :], prompt)
        texts = self.aids.texts
        if texts is None:
            raise UserError("contrastive: this engine has no tokenizer", "use keep=N (tokens)")
        if options.negative_prompt:
            return np.array(texts.encode(options.negative_prompt), np.int32)
        whole = prompt.tolist()
        fewer = texts.rewrite(whole, without_examples)
        if fewer == whole or not fewer:
            raise UserError(
                "contrastive: the prompt has no examples of inputs and outputs (>>>) that could be left out",
                "say what to contrast with: negative_prompt=TEXT, keep=N (tokens) or amateur=MODEL",
            )
        return np.array(fewer, np.int32)

    def decide_all(self, items: list[Item]) -> list[Update | Exception]:
        updates = self.inner.decide_all([self._contrasted(item) for item in items])
        return [
            update if isinstance(update, Exception) else _raw(item, update)
            for item, update in zip(items, updates, strict=True)
        ]

    def _contrasted(self, item: Item) -> Item:
        beside = self._beside(item)
        if beside is None:
            return item
        logits = item.logits.copy()
        logits[-1] = contrasted(logits[-1], beside, self.options)
        return item._replace(logits=logits)

    def _beside(self, item: Item) -> Floats | None:
        """What the other reader says of the last target; None where there is nothing to contrast."""
        if item.beside is not None or not (self.options.amateur and self.options.strength):
            return item.beside
        amateur, targets = self.aids.amateur, item.window.targets
        is_next = len(targets) and targets.item(-1) == item.seq.length
        return amateur.logits(item.seq) if amateur is not None and is_next else None


def contrasted(own: Floats, other: Floats, options: Options) -> Floats:
    """One row, float32 [vocabulary], from the request's own logits and the second stream's."""
    for row in (own, other):
        if not (row < np.inf).all():
            return row  # whoever chooses tokens says what is wrong with rows that are no numbers
    log_p, log_q = _log_shares(own), _log_shares(other)
    p, size = np.exp(log_p), len(log_p)
    if np.sqrt(size) * p.std(ddof=1) > options.uncertainty:
        return own
    allowed = (p >= options.floor / size) & (p >= options.head * p.max()) & (p > 0)
    if options.mix == "logits":
        mixed = (1 + options.strength) * log_p[allowed] - options.strength * log_q[allowed]
    else:
        left = p[allowed] - options.strength * np.exp(log_q[allowed])
        mixed = np.log(left, out=np.full_like(left, -np.inf), where=left > 0)
    if not np.isfinite(mixed).any():
        return own
    told = np.full(size, -np.inf, np.float32)
    told[allowed] = mixed
    return told


def _log_shares(logits: Floats) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - float(logits.max())
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))


def _fewer(kept: Ints, prompt: Ints) -> Ints:
    if len(kept) == len(prompt):
        raise UserError(
            f"contrastive: the prompt has {len(prompt)} tokens, and keep={len(kept)} leaves none of them out",
            f"keep of less than {len(prompt)}",
        )
    return kept.copy()


def _raw(item: Item, update: Update) -> Update:
    """With log-probabilities of the model as it is."""
    if item.seq.params.logprobs is None or not len(update.positions):
        return update
    at = np.searchsorted(item.window.targets, update.positions)
    raw = rows.written_logprobs(item.logits[at], item.seq, update.positions, update.tokens)
    return update._replace(logprobs={**update.logprobs, **raw})
