"""What a model is and what this machine offers, for those who may not look below the engine."""

from __future__ import annotations

from plait.runner.facts import FormatShare, Machine, ModelFacts, machine, model_facts

__all__ = ["FormatShare", "Machine", "ModelFacts", "machine", "model_facts"]
