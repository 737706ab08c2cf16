"""Planners and decoders by name, with their options; a decoder may stand inside wrappers: "credit(threshold)"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from plait.core import registry
from plait.core.aids import NO_AIDS, Aids
from plait.core.errors import UserError
from plait.core.traits import Traits
from plait.decoding.base import Decoder, Wrapper
from plait.engine.modes import in_mode
from plait.engine.options import resolve
from plait.engine.proposing import OF_DRAFTS
from plait.iteration.base import Equipment, Planner
from plait.kernels.plan import Pool as Threads

AUTO = "auto"
MOST_WRAPPERS = 4
MOST_BUILT = 256
"""Parts that are kept; requests may ask for any number of different ones."""


def default_decoder(planner: str, traits: Traits) -> str:
    """The decoder that "auto" means with a planner."""
    if traits.starts_from_noise:
        return "renoise"
    return str(registry.load("iteration", planner).Planner.default_decoder)


def chain(decoder: str) -> list[str]:
    """Names from the outermost wrapper to the decoder inside all of them. Raises UserError."""
    names = decoder.rstrip(")").split("(")
    if decoder.count(")") != len(names) - 1 or ")" in "(".join(names):
        raise UserError(
            f"decoder={decoder!r} is no name", "such as threshold, or credit(threshold)"
        )
    if len(names) > MOST_WRAPPERS:
        raise UserError(f"decoder={decoder!r} is {len(names)} deep", f"{MOST_WRAPPERS} at most")
    classes = [registry.load("decoding", name).Decoder for name in names]
    for name, kind in zip(names[:-1], classes, strict=False):
        if not issubclass(kind, Wrapper):
            raise UserError(
                f"decoder={decoder!r}: nothing can stand inside {name!r}", "leave out the brackets"
            )
    if len(set(names)) < len(names):
        raise UserError(f"decoder={decoder!r} holds a name twice", "each once")
    last = classes[-1]
    return [*names, last.default_inner] if issubclass(last, Wrapper) else names


def verifies(decoder: str) -> bool:
    """Whether it takes only what it would have written, of what was drafted; "auto" is one that does, if need be."""
    return decoder == AUTO or bool(registry.load("decoding", chain(decoder)[0]).Decoder.verifies)


def kinds(planner: str, decoder: str) -> dict[str, type[Any]]:
    """Options classes: of the planner, of the innermost decoder as "decoder", of wrappers by their names."""
    *wrappers, inner = chain(decoder)
    own = {name: registry.load("decoding", name).Options for name in wrappers}
    planner_options = registry.load("iteration", planner).Options
    return {"planner": planner_options, "decoder": registry.load("decoding", inner).Options, **own}


def _refuse_idle(planner: Planner, decoder: str, given: Mapping[str, str]) -> None:
    """Raises UserError for what a request says of drafts where nothing is drafted."""
    is_asked = given.get("proposer", "none") not in ("none", "auto")
    if not planner.drafts and (is_asked or given.keys() & OF_DRAFTS):
        raise UserError(
            f"the decoder {decoder!r} verifies no drafts, so there is no use for a proposer, width or branches",
            "leave one of them out",
        )
    if given.get("proposer") == "none" and given.keys() & OF_DRAFTS:
        raise UserError(
            "width and branches are of drafts, and the proposer is 'none'", "leave them out"
        )


class Parts:
    """What the request does not name is the engine's. Parts are built once for the same options."""

    def __init__(
        self,
        traits: Traits,
        budget: int,
        names: Mapping[str, str],
        options: Mapping[str, Any],
        threads: Threads | None,
        equipment: Equipment,
        aids: Aids = NO_AIDS,
    ) -> None:
        """names, options: the engine's own; any other part begins with its default options. aids: for decoders."""
        self._equipment, self._aids = equipment, aids
        self.traits = traits
        self.budget = budget
        self.names = names
        self._threads = threads
        self._options = dict(options)
        self._build = lru_cache(MOST_BUILT)(self._build_uncached)

    def choose(
        self, planner: str, decoder: str, options: Mapping[str, str] | None = None
    ) -> tuple[Planner, Decoder]:
        """Parts for one request; "auto" for the engine's. options: of these parts, by name, as text. Raises
        UserError (unknown, unfit)."""
        if planner == AUTO:
            planner = self.names["planner"]
        if decoder == AUTO:
            is_own = planner == self.names["planner"]
            decoder = self.names["decoder"] if is_own else default_decoder(planner, self.traits)
        return self._build(planner, decoder, tuple(sorted((options or {}).items())))

    def _build_uncached(
        self, planner: str, decoder: str, given: tuple[tuple[str, str], ...]
    ) -> tuple[Planner, Decoder]:
        base = {
            part: self._options[part]
            for part, name in (("planner", planner), ("decoder", decoder))
            if name == self.names[part]
        }
        if decoder == self.names["decoder"]:
            base |= {name: self._options[name] for name in chain(decoder)[:-1]}
        options = resolve(dict(given), kinds(planner, decoder), base)
        traits = self._traits(planner)
        made = self._planner(planner, options["planner"], traits)
        own = self._decoder(decoder, options, traits)
        if not own.verifies:
            made.drafts = False
        _refuse_idle(made, decoder, dict(given))
        return made, own

    def _traits(self, planner: str) -> Traits:
        """Of the mode that the planner is for; what has to be fed at once fits into a step."""
        traits = in_mode(self.traits, planner)
        if not registry.load("iteration", planner).Planner.is_whole:
            return traits
        return replace(traits, context_length=min(traits.context_length, self.budget))

    def _decoder(self, name: str, options: Mapping[str, Any], traits: Traits) -> Decoder:
        *wrappers, innermost = chain(name)
        module = registry.load("decoding", innermost)
        decoder: Decoder = module.Decoder(options["decoder"], traits)
        decoder.threads = self._threads
        for wrapper in reversed(wrappers):
            module = registry.load("decoding", wrapper)
            decoder = module.Decoder(options[wrapper], traits, decoder)
            decoder.threads = self._threads
        decoder.equip(self._aids)
        return decoder

    def _planner(self, name: str, options: Any, traits: Traits) -> Planner:
        planner: Planner = registry.load("iteration", name).Planner(options, traits)
        planner.time = self._equipment.company.time
        if planner.smallest_window > self.budget:
            raise UserError(
                f"max_num_batched_tokens={self.budget} is too small for the planner {name!r}",
                f"at least {planner.smallest_window}",
            )
        planner.equip(self._equipment)
        return planner
