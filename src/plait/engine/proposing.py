"""Proposers by name: "lookahead", "draft:MODEL", "auto", "auto:MODEL", "none"."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from plait.core import registry
from plait.core.config import EngineConfig
from plait.core.errors import UserError

PLANNER = "speculative"
OF_DRAFTS = {"width", "branches"}
"""Options that do nothing without drafts."""
DRAFT_KV = 256 << 20
"""Bytes of K/V for a draft model or an amateur."""

CheckDraft = Callable[[Any], frozenset[int]]
"""From what the draft model's tokenizer is built from to ids that end an answer; raises UserError for a
vocabulary that is not the model's."""


class Choice(NamedTuple):
    """name: a sibling in `proposers`, or auto. model: of a draft model, or the file of heads, "" without one."""

    name: str
    model: str


def choice(proposer: str) -> Choice:
    """Raises UserError."""
    name, colon, model = proposer.partition(":")
    known = ("auto", *registry.names("proposers"))
    if name not in known:
        raise UserError(f"no proposer called {name!r}", f"available: {', '.join(known)}")
    if colon and (not model or name not in ("draft", "auto", "heads")):
        raise UserError(
            f"{proposer!r} is no proposer",
            "a model follows draft: or auto:, as in draft:MODEL, a file heads:",
        )
    if name == "draft" and not model:
        raise UserError("the proposer 'draft' needs a model", "draft:MODEL, of the same vocabulary")
    if name == "heads" and not model:
        raise UserError("the proposer 'heads' needs a file", "heads:FILE, safetensors")
    return Choice(name, model)


def draft_config(config: EngineConfig) -> EngineConfig | None:
    """How to load the draft model; None without one."""
    name, model = choice(config.proposer)
    if name == "heads":
        return None
    return replace(config, model=model, kv_memory=DRAFT_KV, max_model_len=0) if model else None


def heads_file(config: EngineConfig) -> Path | None:
    """Where the heads lie that the engine's proposer needs."""
    name, model = choice(config.proposer)
    return Path(model) if name == "heads" else None


def amateur(config: EngineConfig) -> str:
    """The model that the engine's own contrastive decoder asks for; "" without one."""
    names = "amateur", "contrastive.amateur"
    asked = (config.options[name] for name in names if name in config.options)
    return next(asked, "") if "contrastive" in config.decoder else ""


def amateur_config(config: EngineConfig) -> EngineConfig | None:
    """How to load it; None without one."""
    model = amateur(config)
    return replace(config, model=model, kv_memory=DRAFT_KV, max_model_len=0) if model else None


def settled(config: EngineConfig, *, is_causal: bool, is_verified: bool) -> EngineConfig:
    """The configuration with the planner that a proposer needs. is_verified: whether its decoder verifies drafts. Raises
    UserError for a proposer that cannot be used."""
    name, model = choice(config.proposer)
    own = config.options.get("proposer", name) if config.planner == PLANNER else name
    if name != "auto" and own != name:
        raise UserError(f"two proposers, {name!r} and {own!r}", "name one")
    if own == "none":
        _refuse_idle(config, "the proposer is 'none'", model)
        return _with(config, own) if config.planner == PLANNER else config
    reason = _why_not(config, is_causal=is_causal, is_verified=is_verified)
    if not reason:
        return _with(config, own)
    if own != "auto":
        raise UserError(f"{reason}, so there is no use for the proposer {own!r}", "leave it out")
    _refuse_idle(config, reason, model)
    return config


def _why_not(config: EngineConfig, *, is_causal: bool, is_verified: bool) -> str:
    """Why nothing can be drafted; "" if something can."""
    if not is_verified:
        return f"the decoder {config.decoder!r} verifies no drafts"
    if not is_causal:
        return "this model does not generate left to right"
    if config.planner not in ("auto", PLANNER):
        return f"the planner {config.planner!r} drafts nothing"
    return ""


def _refuse_idle(config: EngineConfig, reason: str, model: str) -> None:
    """Raises UserError for what is of drafts alone where nothing is drafted."""
    given = {
        "a draft model": bool(model),
        "a corpus": bool(config.corpus),
        "width and branches": bool(config.options.keys() & OF_DRAFTS),
    }
    for what, is_given in given.items():
        if is_given:
            raise UserError(f"{reason}, so there is no use for {what}", "leave it out")


def _with(config: EngineConfig, name: str) -> EngineConfig:
    return replace(config, planner=PLANNER, options={**config.options, "proposer": name})


def of_request(
    planner: str, proposer: str | None, options: Mapping[str, str] | None
) -> tuple[str, Mapping[str, str] | None]:
    """Planner and options of a request that names a proposer. Raises UserError."""
    if proposer is None:
        return planner, options
    if planner not in ("auto", PLANNER):
        raise UserError(
            f"the planner {planner!r} has no proposers", f"use the planner {PLANNER!r} or 'auto'"
        )
    known = ("auto", *registry.names("proposers"))
    if proposer not in known:
        raise UserError(f"no proposer called {proposer!r}", f"available: {', '.join(known)}")
    given = dict(options or {})
    if given.get("proposer", proposer) != proposer:
        raise UserError(f"two proposers, {proposer!r} and {given['proposer']!r}", "name one")
    return PLANNER, {**given, "proposer": proposer}
