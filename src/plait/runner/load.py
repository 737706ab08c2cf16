"""From a checkpoint to something that runs: model, memory for K/V, executor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from plait.core.config import EngineConfig
from plait.core.errors import CapacityError, UserError
from plait.core.step import Runner
from plait.core.traits import Traits
from plait.kernels.plan import Pool as Threads
from plait.kernels.plan import default_num_threads, runnable_isas, trim_heap
from plait.kvcache.pool import KVLayout, Pool
from plait.models.base import Model
from plait.models.choose import model_for, trace
from plait.runner import tiles
from plait.runner.memory import available_bytes, fit
from plait.runner.native import NativeRunner
from plait.runner.reference import ReferenceRunner
from plait.weights.base import Checkpoint
from plait.weights.open import open_checkpoint

THREADS_PER_PROCESSOR = 8


@dataclass(frozen=True, slots=True)
class Loaded:
    """traits: with the context length that memory allows. words: what was decided, a line each. close:
    gives the mapped file back."""

    runner: Runner
    traits: Traits
    pool: Pool
    words: tuple[str, ...]
    close: Callable[[], None]


ReadEnds = Callable[[Any], frozenset[int]]
"""From a checkpoint's tokenizer source to ids that end an answer."""


def load(config: EngineConfig, path: Path, read_ends: ReadEnds | None = None) -> Loaded:
    """Opens, checks, packs. Raises UserError (FormatError, CapacityError) with nothing left open.

    read_ends: called once with what plait.text builds a tokenizer from (GGUF metadata or a folder); its
    ids end answers besides those that the model's configuration names.
    """
    if config.isa not in ("auto", *runnable_isas()):
        known = ", ".join(("auto", *runnable_isas()))
        raise UserError(f"isa={config.isa!r} does not run on this processor", f"one of: {known}")
    checkpoint = open_checkpoint(path)
    try:
        return _load(config, checkpoint, read_ends)
    except BaseException:
        checkpoint.close()
        raise


def _load(config: EngineConfig, checkpoint: Checkpoint, read_ends: ReadEnds | None) -> Loaded:
    model = model_for(checkpoint.kind, checkpoint.config)
    traits = model.traits()
    # Before the weights: what a tokenizer takes while it is built is free again when they are packed.
    if read_ends is not None:
        ends = read_ends(checkpoint.tokenizer_source)
        traits = replace(traits, eos_ids=traits.eos_ids | ends)
    checkpoint.forget_tokenizer()
    trim_heap()
    layout = _layout(config, model)
    fitted = fit(
        layout,
        context_length=traits.context_length,
        max_model_len=config.max_model_len,
        kv_memory=config.kv_memory,
        max_num_seqs=config.max_num_seqs,
        available=max(0, available_bytes() - checkpoint.file_bytes),
    )
    pool = Pool(layout, fitted.num_pages)
    threads = _start(num_threads(config))
    runner = _runner(config, model, checkpoint, pool, threads)
    isa = config.isa if config.isa != "auto" else runnable_isas()[-1]
    kernels = f"{config.activations} activations, {isa} kernels, {threads.size} threads"
    return Loaded(
        runner,
        replace(traits, context_length=fitted.max_model_len),
        pool,
        (kernels if config.executor == "native" else "reference executor", *fitted.words),
        checkpoint.close,
    )


def num_threads(config: EngineConfig) -> int:
    """More threads than processors wait for each other: hundreds of them seem to hang."""
    own = default_num_threads()
    if config.threads > THREADS_PER_PROCESSOR * own:
        raise UserError(
            f"threads={config.threads} is far more than this machine has processors",
            f"at most {THREADS_PER_PROCESSOR * own}; 0 is {own}",
        )
    return config.threads or own


def _start(count: int) -> Threads:
    try:
        return Threads(count)
    except RuntimeError as error:
        hint = "threads=1 needs no more; or raise the limit of processes"
        raise CapacityError(f"the system refuses to start {count} threads: {error}", hint) from None


def _layout(config: EngineConfig, model: Model) -> KVLayout:
    shape = model.cache_shape()
    exact = config.activations == "f32"
    dtype = config.kv if config.kv != "auto" else "f32" if exact else "f16"
    return KVLayout(shape.num_layers, shape.num_kv_heads, shape.head_dim, dtype)


def _runner(
    config: EngineConfig, model: Model, checkpoint: Checkpoint, pool: Pool, threads: Threads
) -> Runner:
    graph = trace(model, {name: checkpoint.info(name).shape for name in checkpoint.names()})
    if config.executor == "reference":
        return ReferenceRunner(graph, checkpoint, pool, activations=config.activations)
    runner = NativeRunner(
        graph,
        checkpoint,
        pool,
        activations=config.activations,
        threads=threads,
        isa=config.isa,
    )
    if config.activations == "int8":
        tiles.choose(runner.weights.kinds, config.isa)
    return runner
