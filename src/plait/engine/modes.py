"""Which of its modes a model is in for a planner: several, if the same weights were trained to be read in several ways."""

from __future__ import annotations

from dataclasses import replace

from plait.core import registry
from plait.core.traits import Mode, Traits
from plait.core.window import PatternKind

NATIVE_PLANNERS = {
    PatternKind.CAUSAL: "autoregressive",
    PatternKind.BLOCK: "block",
    PatternKind.FULL: "canvas",
}
"""The planner for a model's own attention."""


def in_mode(traits: Traits, planner: str) -> Traits:
    """The mode that a planner is for, of a model that has several; else the model as it is."""
    kinds = registry.load("iteration", planner).Planner.kinds
    if traits.pattern.kind in kinds:
        return traits
    fitting = (mode for kind in kinds for mode in traits.modes if mode.pattern.kind is kind)
    mode = next(fitting, None)
    if mode is None:
        return traits
    own = Mode(traits.predicts, traits.pattern)
    others = (own, *(other for other in traits.modes if other is not mode))
    return replace(traits, predicts=mode.predicts, pattern=mode.pattern, modes=others)
