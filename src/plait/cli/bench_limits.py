"""What a measurement of `plait bench` is compared with, and what it cannot be about."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from plait.cli.session import fetch
from plait.core.config import EngineConfig
from plait.core.errors import ContextLengthError


class Limits:
    """What this machine could do at most with a model: measured when made, a second or less.

    words: a line that says what was measured. fields: for the record.
    """

    def __init__(self, config: EngineConfig) -> None:
        from plait.analysis import roofline

        path = fetch(config.model, offline=config.offline)
        self.roof, words = roofline.roof(path, config)
        self.words = f"limit: {words}"
        self.fields: dict[str, Any] = {"peaks": asdict(self.roof.peaks)}


def plain(config: EngineConfig) -> EngineConfig:
    """Without drafts, unless somebody named a proposer: what a step takes is measured."""
    return replace(config, proposer="none") if config.proposer == "auto" else config


def refuse_longer(context: int, tokens: int) -> None:
    """Raise ContextLengthError for requests that would be cut short, and so measured wrongly."""
    if tokens > context:
        raise ContextLengthError(
            f"prompt and answer have {tokens} tokens, but the context holds {context}",
            "fewer of them, or a larger --ctx",
        )
