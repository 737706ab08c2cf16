"""Traits: what the engine must know of a model to plan its forwards."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from plait.core.window import CAUSAL, Pattern


class Predicts(StrEnum):
    """Which canvas position the logits of a row decide."""

    NEXT = "next"
    SAME = "same"


@dataclass(frozen=True, slots=True)
class Mode:
    """One more way in which the same weights were trained to be read; see Traits for the fields."""

    predicts: Predicts
    pattern: Pattern


@dataclass(frozen=True, slots=True)
class Traits:
    """predicts: see Predicts; NEXT with another pattern than CAUSAL is a diffusion model with shifted logits.

    pattern: the attention the model was trained with: CAUSAL, block(n) (block diffusion) or FULL (a canvas
        whose every position sees every other; no K/V is exact before all is decided).

    mask_token: the id that stands for an undecided position, None for models without one.
    modes: what else the weights were trained for; the planner that is asked for chooses.
    starts_from_noise: undecided positions hold uniformly random tokens instead.
    context_length: longest canvas in tokens. vocab_size: width of a logits row.
    eos_ids: token ids that end a generation.
    """

    vocab_size: int
    context_length: int
    predicts: Predicts = Predicts.NEXT
    pattern: Pattern = CAUSAL
    mask_token: int | None = None
    starts_from_noise: bool = False
    eos_ids: frozenset[int] = frozenset()
    modes: tuple[Mode, ...] = ()
