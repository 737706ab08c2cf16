"""What a step costs on this machine, for an engine that is about to be built."""

from __future__ import annotations

from plait.analysis.step_cost import Setup, StepCost
from plait.core.config import VERSION, EngineConfig
from plait.engine.facts import machine
from plait.iteration.pace import Pace
from plait.weights.hub import cache_root


def setup(config: EngineConfig) -> Setup:
    """What the measured cost of a step depends on."""
    here = machine()
    isa = here.isas[-1] if config.isa == "auto" else config.isa
    return Setup(
        config.model,
        here.processor,
        "reference" if config.executor == "reference" else isa,
        config.threads or here.threads,
        config.activations,
        config.kv_type,
        VERSION,
    )


def measured_pace(config: EngineConfig) -> tuple[Pace | None, tuple[str, ...]]:
    """The pace for prompts, with a line on it; None when `plait bench step` has not measured this setup."""
    cost = StepCost.load(setup(config), cache_root())
    if cost is None:
        return None, ()
    words = f"prompts stretch a step of running requests up to {config.max_step_stretch:g} times"
    return Pace(cost, config.max_step_stretch), (words,)
