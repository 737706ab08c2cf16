"""Composition: the only file that names concrete classes, and where parts that do not fit are refused."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

from plait.core import registry
from plait.core.aids import NO_AIDS, Aids
from plait.core.config import PAGE, EngineConfig
from plait.core.errors import CapacityError, UserError
from plait.core.step import Runner
from plait.core.traits import Traits
from plait.core.window import PatternKind
from plait.engine import beside, parts, proposing
from plait.engine.engine import Engine
from plait.engine.limits import Limits
from plait.engine.modes import NATIVE_PLANNERS, in_mode
from plait.engine.options import resolve
from plait.engine.pace import measured_pace
from plait.engine.parts import AUTO
from plait.grammar.base import Compiler, Lexicon
from plait.iteration.base import Equipment, Planner
from plait.iteration.constraining import Constraining
from plait.iteration.pace import StepTime
from plait.iteration.scheduler import Scheduler
from plait.kernels.plan import Pool as Threads
from plait.kvcache.base import Cache
from plait.kvcache.pool import Pool
from plait.proposers.base import Resources
from plait.proposers.corpus import Corpus
from plait.runner.block_drafter import BlockDrafter
from plait.runner.drafter import Drafter
from plait.runner.heads import Heads
from plait.runner.load import ReadEnds, load
from plait.weights import hub

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
    read_draft: ReadEnds | None = None,
    aids: Aids = NO_AIDS,
    lexicon: Callable[[], Lexicon] | None = None,
) -> Built:
    """The engine for a configuration: fetches the model if need be, loads it, puts the parts together.

    progress: called with (bytes done, bytes in total, label) during a download. read_ends: see `load`. read_draft:
    the same for a draft model or an amateur; it may raise UserError for a vocabulary that is not the model's. aids:
    for decoders, without the amateur. lexicon: what the model's tokens spell, asked for with the first structured
    output; without one there is none.
    Raises UserError; then nothing is left open.
    """
    path = hub.resolve(config.model, offline=config.offline, progress=progress)
    with ExitStack() as opened:
        loaded = load(config, path, read_ends)
        opened.callback(loaded.close)
        second = partial(beside.second, config, loaded, progress, read_draft, opened)
        drafter = second(proposing.draft_config(config), "draft for")
        amateur = second(proposing.amateur_config(config), "be the amateur of")
        aids = replace(aids, amateur=amateur, amateur_name=proposing.amateur(config))
        pace, pace_words = measured_pace(config)
        runner, heads = beside.headed(config, loaded)
        name = proposing.choice(config.proposer).name
        corpus, corpus_words = beside.corpus(config, lexicon)
        engine = assemble(
            config,
            runner,
            loaded.traits,
            loaded.pool,
            loaded.threads,
            most_positions=loaded.most_positions,
            time=None if pace is None else pace.time,
            drafter=drafter,
            heads=heads,
            blocks=BlockDrafter(loaded) if name == "self" else None,
            corpus=corpus,
            aids=aids,
            lexicon=lexicon,
        )
        engine.scheduler.pace = pace
        chosen = engine.own_planner.words
        words = (
            *loaded.words,
            *_whole_words(engine, loaded.traits.context_length),
            *pace_words,
            *corpus_words,
            *chosen,
        )
        return Built(engine, engine.traits, words, opened.pop_all().close)


def _whole_words(engine: Engine, most: int) -> tuple[str, ...]:
    """What a step feeds of a canvas that is seen as a whole, and what that means for the context. most: the tokens that
    model and memory allow."""
    if engine.traits.pattern.kind is not PatternKind.FULL:
        return ()
    granted = engine.traits.context_length
    cut = f", so the context is {granted} tokens instead of {most}" if granted < most else ""
    budget = engine.scheduler.max_num_batched_tokens
    return (
        f"the model sees its canvas as a whole, and a step feeds {budget} positions "
        f"(max_num_batched_tokens){cut}",
    )


BUDGET = 512
"""Positions of a step where nothing calls for more: longer chunks of a prompt are no faster."""


def assemble(
    config: EngineConfig,
    runner: Runner,
    traits: Traits,
    pool: Pool,
    threads: Threads | None = None,
    *,
    most_positions: int = BUDGET,
    time: StepTime | None = None,
    drafter: Drafter | None = None,
    heads: Heads | None = None,
    blocks: BlockDrafter | None = None,
    corpus: Corpus | None = None,
    aids: Aids = NO_AIDS,
    lexicon: Callable[[], Lexicon] | None = None,
) -> Engine:
    """An engine from a runner and memory for K/V. Raises UserError for parts that do not fit together.

    threads: what decoders share rows out to. traits: of the model; the engine gets them with the context length
    that model, memory and cache allow. most_positions: that memory allows one step to feed.
    time: what a step costs here, where it was measured. drafter, heads, blocks, corpus: for proposers. aids: for decoders.
    lexicon: for structured output.
    """
    traits = traits if config.planner == AUTO else in_mode(traits, config.planner)
    is_causal = traits.pattern.kind is PatternKind.CAUSAL
    is_verified = parts.verifies(config.decoder)
    config = proposing.settled(config, is_causal=is_causal, is_verified=is_verified)
    names = part_names(config, traits)
    cache_module = registry.load("kvcache", names["cache"])
    planner = registry.load("iteration", names["planner"]).Planner
    kinds = {"cache": cache_module.Options, **parts.kinds(names["planner"], names["decoder"])}
    options = resolve(config.options, kinds)
    budget = step_budget(config, planner, traits, most_positions)
    config = replace(config, max_num_batched_tokens=budget)
    refuse_sharing(config, cache_module.Cache, traits)
    cache: Cache = cache_module.Cache(pool, options.pop("cache"))
    traits = replace(traits, context_length=context_length(config, traits, cache, planner))
    scheduler = Scheduler(
        cache,
        max_num_batched_tokens=config.max_num_batched_tokens,
        max_num_seqs=config.max_num_seqs,
    )
    scheduler.company.time = time
    equipment = Equipment(scheduler.company, Resources(drafter, heads, blocks, corpus), budget)
    own = parts.Parts(traits, budget, names, options, threads, equipment, aids)
    own.choose(AUTO, AUTO)
    constraining = Constraining(partial(_compiler, lexicon, traits) if lexicon else None)
    return Engine(scheduler, runner, traits, own.choose, Limits.of(config), constraining)


def _compiler(lexicon: Callable[[], Lexicon], traits: Traits) -> Compiler:
    """Made with the first structured output; the library is not loaded before."""
    from plait.grammar.llguidance import Compiler

    return Compiler(lexicon, traits.eos_ids, traits.vocab_size)


def part_names(config: EngineConfig, traits: Traits) -> dict[str, str]:
    """The siblings in use, with "auto" resolved by what the model's traits call for."""
    planner = native_planner(traits) if config.planner == AUTO else config.planner
    default = parts.default_decoder(planner, traits)
    decoder = default if config.decoder == AUTO else config.decoder
    cache = default_cache(config, traits) if config.cache == AUTO else config.cache
    return {"planner": planner, "decoder": decoder, "cache": cache}


def default_cache(config: EngineConfig, traits: Traits) -> str:
    """The cache that "auto" means: one that shares prefixes, if that is wanted and can be."""
    return "radix" if config.enable_prefix_caching and can_share(traits) else "paged"


def can_share(traits: Traits) -> bool:
    """Whether the K/V of a page follows from the tokens up to its end."""
    kind, size = traits.pattern.kind, traits.pattern.size
    return kind is PatternKind.CAUSAL or (kind is PatternKind.BLOCK and PAGE % size == 0)


def refuse_sharing(config: EngineConfig, cache: type[Cache], traits: Traits) -> None:
    """Raise UserError for a cache that shares where that cannot be, or is not wanted."""
    if not cache.shares:
        return
    if not config.enable_prefix_caching:
        raise UserError(
            f"the cache {config.cache!r} shares prefixes, but enable_prefix_caching is off",
            "use the cache 'auto' or 'paged', or leave it on",
        )
    if not can_share(traits):
        raise UserError(
            f"the cache {config.cache!r} needs a model whose tokens do not see beyond their page",
            "use the cache 'auto' or 'paged'",
        )


def native_planner(traits: Traits) -> str:
    """The planner for a model's own attention pattern."""
    if traits.pattern.kind not in NATIVE_PLANNERS:
        raise UserError(
            f"no planner generates with {traits.pattern.kind.name.lower()} attention",
            f"planners: {', '.join(registry.names('iteration'))}",
        )
    return NATIVE_PLANNERS[traits.pattern.kind]


def step_budget(
    config: EngineConfig, planner: type[Planner], traits: Traits, most_positions: int
) -> int:
    """Positions that a step may feed: as asked for, or (0) what a whole canvas takes and memory allows."""
    if config.max_num_batched_tokens:
        return config.max_num_batched_tokens
    return max(BUDGET, min(traits.context_length, most_positions)) if planner.is_whole else BUDGET


def context_length(
    config: EngineConfig, traits: Traits, cache: Cache, planner: type[Planner]
) -> int:
    """The longest canvas: what was asked for, or (0) all that model, memory and cache allow."""
    limits = {"the model's context": traits.context_length, "the KV cache": cache.num_slots}
    if not cache.keeps:  # every step feeds whole canvases
        limits["max_num_batched_tokens with this cache"] = config.max_num_batched_tokens
    if planner.is_whole:
        limits["max_num_batched_tokens with this model"] = config.max_num_batched_tokens
    what, least = min(limits.items(), key=lambda item: item[1])
    if config.max_model_len > least:
        kind = UserError if least == traits.context_length else CapacityError
        raise kind(
            f"max_model_len={config.max_model_len} is more than {what} allows: {least}",
            f"lower max_model_len to {least}, or raise what limits it",
        )
    return config.max_model_len or least
