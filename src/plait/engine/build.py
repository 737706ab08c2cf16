"""Composition: the only file that names concrete classes, and where parts that do not fit are refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from plait.core import registry
from plait.core.config import EngineConfig
from plait.core.errors import CapacityError, UserError
from plait.core.step import Runner
from plait.core.traits import Traits
from plait.core.window import PatternKind
from plait.decoding.base import Decoder
from plait.engine.engine import Engine
from plait.engine.limits import Limits
from plait.engine.options import resolve
from plait.engine.pace import measured_pace
from plait.iteration.base import Planner
from plait.iteration.scheduler import Scheduler
from plait.kernels.plan import Pool as Threads
from plait.kvcache.base import Cache
from plait.kvcache.pool import Pool
from plait.runner.load import ReadEnds, load
from plait.weights import hub

AUTO = "auto"
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Built:
    """traits: of the running model (context_length as granted). words: what was decided, a line each.
    close: gives the model's file back."""

    engine: Engine
    traits: Traits
    words: tuple[str, ...]
    close: Callable[[], None]


def build(
    config: EngineConfig,
    progress: Progress | None = None,
    read_ends: ReadEnds | None = None,
) -> Built:
    """The engine for a configuration: fetches the model if need be, loads it, puts the parts together.

    progress: called with (bytes done, bytes in total, label) during a download. read_ends: see `load`.
    Raises UserError; then nothing is left open.
    """
    path = hub.resolve(config.model, offline=config.offline, progress=progress)
    loaded = load(config, path, read_ends)
    try:
        engine = assemble(config, loaded.runner, loaded.traits, loaded.pool, loaded.threads)
        pace, pace_words = measured_pace(config)
        engine.scheduler.pace = pace
    except BaseException:
        loaded.close()
        raise
    return Built(engine, engine.traits, (*loaded.words, *pace_words), loaded.close)


ROOMS = {"planner": "iteration", "decoder": "decoding", "cache": "kvcache"}
NATIVE_PLANNERS = {PatternKind.CAUSAL: "autoregressive", PatternKind.BLOCK: "block"}


def assemble(
    config: EngineConfig, runner: Runner, traits: Traits, pool: Pool, threads: Threads | None = None
) -> Engine:
    """An engine from a runner and memory for K/V. Raises UserError for parts that do not fit together.

    threads: what decoders share rows out to. traits: of the model; the engine gets them with the context length that model, memory and cache allow.
    """
    names = part_names(config, traits)
    modules = {part: registry.load(ROOMS[part], name) for part, name in names.items()}
    options = resolve(config.options, {part: module.Options for part, module in modules.items()})
    cache: Cache = modules["cache"].Cache(pool, options["cache"])
    traits = replace(traits, context_length=context_length(config, traits, cache))
    parts = Parts(traits, config.max_num_batched_tokens, names, options, threads)
    parts.choose(AUTO, AUTO)
    scheduler = Scheduler(
        cache,
        max_num_batched_tokens=config.max_num_batched_tokens,
        max_num_seqs=config.max_num_seqs,
    )
    return Engine(scheduler, runner, traits, parts.choose, Limits.of(config))


def part_names(config: EngineConfig, traits: Traits) -> dict[str, str]:
    """The siblings in use, with "auto" resolved by what the model's traits call for."""
    planner = native_planner(traits) if config.planner == AUTO else config.planner
    decoder = default_decoder(planner) if config.decoder == AUTO else config.decoder
    return {"planner": planner, "decoder": decoder, "cache": config.cache}


def native_planner(traits: Traits) -> str:
    """The planner for a model's own attention pattern."""
    if traits.pattern.kind not in NATIVE_PLANNERS:
        raise UserError(
            f"no planner generates with {traits.pattern.kind.name.lower()} attention",
            f"planners: {', '.join(registry.names('iteration'))}",
        )
    return NATIVE_PLANNERS[traits.pattern.kind]


def default_decoder(planner: str) -> str:
    """The decoder that "auto" means with a planner."""
    return str(registry.load("iteration", planner).Planner.default_decoder)


def context_length(config: EngineConfig, traits: Traits, cache: Cache) -> int:
    """The longest canvas: what was asked for, or (0) all that model, memory and cache allow."""
    limits = {"the model's context": traits.context_length, "the KV cache": cache.num_slots}
    if not cache.keeps:  # every step feeds whole canvases
        limits["max_num_batched_tokens with this cache"] = config.max_num_batched_tokens
    what, least = min(limits.items(), key=lambda item: item[1])
    if config.max_model_len > least:
        kind = UserError if least == traits.context_length else CapacityError
        raise kind(
            f"max_model_len={config.max_model_len} is more than {what} allows: {least}",
            f"lower max_model_len to {least}, or raise what limits it",
        )
    return config.max_model_len or least


class Parts:
    """Planners and decoders by name, each built once; what the request does not name is the engine's."""

    def __init__(
        self,
        traits: Traits,
        budget: int,
        names: Mapping[str, str],
        options: Mapping[str, Any],
        threads: Threads | None,
    ) -> None:
        """names, options: of the engine's own siblings; any other is built with its default options."""
        self.traits = traits
        self.budget = budget
        self.names = names
        self._threads = threads
        self._options = {(part, name): options[part] for part, name in names.items()}
        self._built: dict[tuple[str, str], Any] = {}

    def choose(self, planner: str, decoder: str) -> tuple[Planner, Decoder]:
        """Parts for one request; "auto" for the engine's. Raises UserError (unknown, unfit)."""
        if planner == AUTO:
            planner = self.names["planner"]
        if decoder == AUTO:
            own = planner == self.names["planner"]
            decoder = self.names["decoder"] if own else default_decoder(planner)
        return self._planner(planner), self._decoder(decoder)

    def _decoder(self, name: str) -> Decoder:
        decoder: Decoder = self._build("decoder", name)
        decoder.threads = self._threads
        return decoder

    def _planner(self, name: str) -> Planner:
        planner: Planner = self._build("planner", name)
        if planner.smallest_window > self.budget:
            raise UserError(
                f"max_num_batched_tokens={self.budget} is too small for the planner {name!r}",
                f"at least {planner.smallest_window}",
            )
        return planner

    def _build(self, part: str, name: str) -> Any:
        if (part, name) not in self._built:
            module = registry.load(ROOMS[part], name)
            options = self._options.get((part, name)) or module.Options()
            self._built[part, name] = getattr(module, part.capitalize())(options, self.traits)
        return self._built[part, name]
