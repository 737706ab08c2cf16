"""For models trained on uniform noise instead of a mask token: keep what is certain, draw the rest anew.

Every step looks at all positions of the block that are not final, whatever they hold. Those of least entropy are
written, as decoding/entropy_bound.py chooses them; the others get random tokens and stay open, also such as were
written before. The block is at rest when the proposals are those of the step before and the mean entropy is below
`calm`, or after `most_steps` steps; then all proposals are written.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from plait.core.errors import UserError
from plait.core.traits import Traits
from plait.core.window import Ints, Update
from plait.decoding import base, rows, scores
from plait.decoding.base import Item, Rows, noise
from plait.decoding.entropy_bound import within_bound
from plait.kernels.sampling import Choices

SUMMARY = "keep positions of little entropy, fill the others with noise again, until all agree"


@dataclass(frozen=True, slots=True)
class Options:
    """bound, calm: in nats. most_steps: of a block."""

    bound: float = 0.1
    calm: float = 0.005
    most_steps: int = 48

    def __post_init__(self) -> None:
        for name in ("bound", "calm"):
            if not 0.0 <= getattr(self, name) <= 1e6:
                raise UserError(f"{name}={getattr(self, name)!r} is out of range", "from 0 to 1e6")
        if not 1 <= self.most_steps <= 10_000:
            raise UserError(f"most_steps={self.most_steps} is out of range", "from 1 to 10000")


class Decoder(base.Decoder):
    """Writes some targets and gives the others back to the noise."""

    edits = True
    options: Options

    def __init__(self, options: Options, traits: Traits) -> None:
        super().__init__(options, traits)
        if not traits.starts_from_noise:
            raise UserError(
                "decoder: 'renoise' needs a model that was trained on uniform noise, this one has a mask token",
                "use 'joint', which edits too, or 'threshold'",
            )

    def decide_all(self, items: list[Item]) -> list[Update | Exception]:
        return rows.decide_all(items, self.traits, self.threads, self._write, edits=True)

    def _write(self, part: Rows, choices: Choices) -> Update:
        seq, targets = part.seq, part.targets
        entropies = scores.entropies(part.logits, self.traits)
        proposals = dict(zip(targets.tolist(), choices.tokens.tolist(), strict=True))
        is_calm = seq.scratch.get("proposals") == proposals and entropies.mean() < self.options.calm
        step = seq.scratch.get("block_steps", 0)
        if is_calm or step + 1 >= self.options.most_steps:
            return rows.written(part, choices, np.ones(len(targets), np.bool_))
        chosen = within_bound(entropies, self.options.bound)
        rest: Ints = targets[~chosen]
        return rows.written(part, choices, chosen)._replace(
            remask=rest,
            noise=noise(seq, rest, step + 1, self.traits),
            settled=False,
            memory={"proposals": proposals},
        )
