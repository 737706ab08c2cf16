"""From a checkpoint to something that runs: model, memory for K/V, executor."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from plait.core.config import EngineConfig
from plait.core.step import Runner
from plait.core.traits import Traits
from plait.kernels.plan import Pool as Threads
from plait.kernels.plan import check_isa, runnable_isas, start_threads, trim_heap
from plait.kvcache.pool import KVLayout, Pool
from plait.models.base import Graph, Model
from plait.models.choose import model_for, trace
from plait.runner import softmax, tiles
from plait.runner.memory import available_bytes, fit, most_positions
from plait.runner.native import NativeRunner
from plait.runner.reference import ReferenceRunner
from plait.weights.base import Checkpoint
from plait.weights.open import open_checkpoint


@dataclass(frozen=True, slots=True)
class Loaded:
    """traits: with the context length that memory allows. words: what was decided, a line each. close:
    gives the mapped file back. threads: the runner's, free between its calls. most_positions: that one step may
    feed, as far as memory goes."""

    runner: Runner
    traits: Traits
    pool: Pool
    threads: Threads
    words: tuple[str, ...]
    close: Callable[[], None]
    most_positions: int


ReadEnds = Callable[[Any], frozenset[int]]
"""From a checkpoint's tokenizer source to ids that end an answer."""


def load(config: EngineConfig, path: Path, read_ends: ReadEnds | None = None) -> Loaded:
    """Opens, checks, packs. Raises UserError (FormatError, CapacityError) with nothing left open.

    read_ends: called once with what plait.text builds a tokenizer from (GGUF metadata or a folder); its
    ids end answers besides those that the model's configuration names.
    """
    check_isa(config.isa)
    checkpoint = open_checkpoint(path)
    try:
        return _load(config, checkpoint, read_ends)
    except BaseException:
        checkpoint.close()
        raise


def _load(config: EngineConfig, checkpoint: Checkpoint, read_ends: ReadEnds | None) -> Loaded:
    model = model_for(checkpoint.kind, checkpoint.config)
    with ThreadPoolExecutor(1) as aside:  # packing leaves the interpreter to whoever needs it
        ends = aside.submit(_read_ends, checkpoint, read_ends)
        loaded = _packed(config, model, checkpoint)
        eos_ids = loaded.traits.eos_ids | ends.result()
    return replace(loaded, traits=replace(loaded.traits, eos_ids=eos_ids))


def _read_ends(checkpoint: Checkpoint, read_ends: ReadEnds | None) -> frozenset[int]:
    ends = frozenset() if read_ends is None else read_ends(checkpoint.tokenizer_source)
    checkpoint.forget_tokenizer()
    trim_heap()  # long before the weights are packed, so that the two never add up
    return ends


def _packed(config: EngineConfig, model: Model, checkpoint: Checkpoint) -> Loaded:
    traits = model.traits()
    layout = _layout(config, model)
    available = max(0, available_bytes() - checkpoint.file_bytes)
    fitted = fit(
        layout,
        context_length=traits.context_length,
        max_model_len=config.max_model_len,
        kv_memory=config.kv_memory,
        max_num_seqs=config.max_num_seqs,
        available=available,
    )
    pool = Pool(layout, fitted.num_pages)
    threads = start_threads(config.threads)
    runner = _runner(config, model, checkpoint, pool, threads)
    isa = config.isa if config.isa != "auto" else runnable_isas()[-1]
    kernels = f"{config.activations} activations, {isa} kernels, {threads.size} threads"
    return Loaded(
        runner,
        replace(traits, context_length=fitted.max_model_len),
        pool,
        threads,
        (kernels if config.executor == "native" else "reference executor", *fitted.words),
        checkpoint.close,
        most_positions(model.config, available),
    )


def _layout(config: EngineConfig, model: Model) -> KVLayout:
    shape = model.cache_shape()
    return KVLayout(shape.num_layers, shape.num_kv_heads, shape.head_dim, config.kv_type)


def _is_unified(config: EngineConfig, graph: Graph) -> bool:
    specs = (node.attrs["spec"] for node in graph.nodes if node.kind == "attention")
    return softmax.is_unified(softmax.key(config.kv_type, next(specs)), config.isa)


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
        unified=_is_unified(config, graph),
    )
    if config.activations == "int8":
        tiles.choose(runner.weights.kinds, config.isa)
    return runner
