"""What a model is and what this machine offers, for those who may not look below the engine."""

from __future__ import annotations

from plait.runner.facts import FormatShare, Machine, ModelFacts, machine, model_facts
from plait.runner.work import Cost, Work, model_work

__all__ = [
    "Cost",
    "FormatShare",
    "Machine",
    "ModelFacts",
    "Work",
    "machine",
    "model_facts",
    "model_work",
]
