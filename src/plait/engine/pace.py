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
    return Setup(
        config.model,
        here.processor,
        here.isas[-1] if config.isa == "auto" else config.isa,
        config.threads or here.threads,
        config.activations,
        config.kv_type,
        VERSION,
    )


def measured_pace(config: EngineConfig) -> Pace | None:
    """The pace for prompts; None when `plait bench step` has not measured this setup."""
    cost = StepCost.load(setup(config), cache_root())
    return None if cost is None else Pace(cost, config.max_step_stretch)
