"""What a model is and what this machine offers, for those who may not look below the engine."""

from __future__ import annotations

from plait.runner.facts import FormatShare, Machine, ModelFacts, machine, model_facts
from plait.runner.softmax import key as softmax_key
from plait.runner.softmax import save as save_softmax_gain
from plait.runner.tiles import EVERY, choose
from plait.runner.work import Cost, Work, model_work

__all__ = [
    "Cost",
    "FormatShare",
    "Machine",
    "ModelFacts",
    "Work",
    "choose_tiles",
    "machine",
    "model_facts",
    "model_work",
    "save_softmax_gain",
    "softmax_key",
]


def choose_tiles(isa: str) -> dict[str, int]:
    """The tiles that a run would use, for every kind of matrix: measured, unless they were before."""
    return choose(EVERY, isa)
