"""What is loaded beside a model: a smaller one that drafts, an amateur, heads, a corpus."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from plait.core.config import EngineConfig
from plait.core.errors import UserError
from plait.core.step import Runner
from plait.core.window import PatternKind
from plait.engine import corpus as corpora
from plait.engine import proposing
from plait.grammar.base import Lexicon
from plait.proposers.corpus import Corpus
from plait.runner.drafter import Drafter
from plait.runner.heads import Heads
from plait.runner.heads import load as load_heads
from plait.runner.load import Loaded, ReadEnds, load
from plait.runner.native import NativeRunner
from plait.runner.watched import Watched
from plait.weights import hub

Progress = Callable[[int, int, str], None]


def second(
    config: EngineConfig,
    loaded: Loaded,
    progress: Progress | None,
    read_draft: ReadEnds | None,
    opened: ExitStack,
    own: EngineConfig | None,
    duty: str,
) -> Drafter | None:
    """A second model, as `own` says. Raises UserError for one that speaks another language."""
    if own is None:
        return None
    path = hub.resolve(own.model, offline=own.offline, progress=progress)
    draft = load(own, path, read_draft)
    opened.callback(draft.close)
    sizes = loaded.traits.vocab_size, draft.traits.vocab_size
    if sizes[0] != sizes[1]:
        raise UserError(
            f"{own.model} cannot {duty} {config.model}: its vocabulary has {sizes[1]} tokens, not {sizes[0]}",
            "use a smaller model of the same family",
        )
    if draft.traits.pattern.kind is not PatternKind.CAUSAL:
        raise UserError(
            f"{own.model} cannot {duty} {config.model}: it does not generate left to right",
            "use one that does",
        )
    drafter = Drafter(draft)
    drafter.measure()
    return drafter


def headed(config: EngineConfig, loaded: Loaded) -> tuple[Runner, Heads | None]:
    """The runner, and Medusa's heads on it if the proposer needs them. Raises UserError."""
    file = proposing.heads_file(config)
    if file is None:
        return loaded.runner, None
    if not isinstance(loaded.runner, NativeRunner):
        raise UserError("heads need the native executor", "use another proposer")
    watched = Watched(loaded.runner)
    return watched, load_heads(file, watched, loaded.traits.vocab_size)


def corpus(
    config: EngineConfig, lexicon: Callable[[], Lexicon] | None
) -> tuple[Corpus | None, tuple[str, ...]]:
    """The corpus for the engine's proposers, with a line on it; None without one. Raises UserError."""
    if not config.corpus:
        return None, ()
    if proposing.choice(config.proposer).name not in ("lookahead", "auto"):
        raise UserError(
            f"the proposer {config.proposer!r} looks nothing up in a corpus",
            "use --proposer lookahead or auto, or leave --corpus out",
        )
    if lexicon is None:
        raise UserError("a corpus needs a tokenizer", "leave it out")
    made, words = corpora.load(config.corpus, lexicon(), hub.cache_root())
    return made, (words,)
