"""Speculation over the native and the reference executor: bit for bit what plain decoding gives, draft model included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from plait.core.config import PAGE, EngineConfig
from plait.core.errors import UserError
from plait.core.params import SamplingParams
from plait.core.sequence import Sequence
from plait.engine import proposing
from plait.engine.build import assemble
from plait.engine.engine import Engine
from plait.kernels.plan import Pool as Threads
from plait.kvcache.pool import KVLayout, Pool
from plait.models.choose import model_for, trace
from plait.proposers import growth
from plait.runner.drafter import Drafter
from plait.runner.load import Loaded
from plait.runner.native import NativeRunner
from plait.runner.reference import ReferenceRunner
from tests.engine.test_native import PATHS, VOCAB
from tests.fakes import drain
from tests.synthetic import CONFIGS, checkpoint

MODELS = ["llama", "gemma3"]
Path = tuple[str, str, str]


def loaded(
    name: str, path: Path, *, seed: int = 0, num_pages: int = 64, native: bool = True
) -> Loaded:
    activations, kv, matrix_format = path
    model = model_for("safetensors", CONFIGS[name])
    weights = checkpoint(CONFIGS[name], matrix_format=matrix_format, seed=seed)
    graph = trace(model, {n: weights.info(n).shape for n in weights.names()})
    shape = model.cache_shape()
    pool = Pool(KVLayout(shape.num_layers, shape.num_kv_heads, shape.head_dim, kv), num_pages)
    threads = Threads(2)
    runner: Any = (
        NativeRunner(graph, weights, pool, activations=activations, threads=threads)
        if native
        else ReferenceRunner(graph, weights, pool, activations=activations)
    )
    return Loaded(runner, model.traits(), pool, threads, (), close=lambda: None, most_positions=512)


def make(own: Loaded, draft: Drafter | None = None, **config: Any) -> Engine:
    """An engine that drafts nothing unless that is asked for."""
    proposer = "auto" if "proposer" in config.get("options", {}) else "none"
    settings = EngineConfig("synthetic", **{"proposer": proposer, **config})
    return assemble(settings, own.runner, own.traits, own.pool, own.threads, drafter=draft)


def requests() -> list[tuple[list[int], SamplingParams]]:
    """Around pages; with something to copy; greedy, sampled, with penalties and log-probabilities."""
    rng = np.random.default_rng(0)
    kinds: list[dict[str, Any]] = [
        {"temperature": 0.0},
        {"temperature": 1.0, "top_p": 0.9},
        {"temperature": 0.0, "repetition_penalty": 1.2, "logprobs": 2},
        {"temperature": 0.7, "min_p": 0.05, "frequency_penalty": 0.3},
    ]
    lengths = [1, 9, 30, 31, 32, 33, 63, 100]
    return [
        (
            [*rng.integers(2, VOCAB - 1, length).tolist()],
            SamplingParams(max_tokens=40, seed=i, ignore_eos=True, **kinds[i % len(kinds)]),
        )
        for i, length in enumerate(lengths)
    ]


def answers(engine: Engine) -> list[tuple[Any, ...]]:
    ids = [engine.add(prompt, params) for prompt, params in requests()]
    found = drain(engine)
    return [(found[i].tokens, found[i].logprobs) for i in ids]


FAST = {"planner": "speculative"}


@pytest.mark.parametrize("path", PATHS, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_every_proposer_gives_the_same_bits(
    name: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for bound in ("FIRST_THRESHOLD", "LOWEST", "HIGHEST"):  # random weights are never sure
        monkeypatch.setattr(growth, bound, 0.0)
    plain = answers(make(loaded(name, path)))
    same, other = (Drafter(loaded(name, path, seed=seed)) for seed in (0, 1))
    engine = make(loaded(name, path), same, **FAST, options={"proposer": "draft", "width": "4"})
    assert answers(engine) == plain
    assert engine.metrics.num_drafted > 100
    assert engine.metrics.num_accepted > 80
    for options, draft in [
        ({"proposer": "draft", "width": "3"}, other),
        ({"proposer": "draft", "width": "6", "branches": "3"}, same),
        ({"proposer": "draft", "width": "6", "branches": "2"}, other),
        ({"proposer": "lookahead", "width": "6"}, None),
        ({"proposer": "auto"}, same),
    ]:
        assert answers(make(loaded(name, path), draft, **FAST, options=options)) == plain


def test_the_reference_executor_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "FIRST_THRESHOLD", 0.0)
    path = PATHS[0]
    plain = make(loaded("llama", path, native=False))
    first = plain.add(*requests()[0])
    draft = Drafter(loaded("llama", path))
    fast = make(
        loaded("llama", path, native=False),
        draft,
        **FAST,
        options={"proposer": "draft", "width": "3"},
    )
    second = fast.add(*requests()[0])
    assert drain(plain)[first].tokens == drain(fast)[second].tokens
    assert fast.metrics.num_accepted > 0


def test_a_drafter_with_few_pages_forgets_who_waited_longest() -> None:
    draft = Drafter(loaded("llama", PATHS[0], num_pages=5))
    engine = make(loaded("llama", PATHS[0]), draft, **FAST, options={"proposer": "draft"})
    assert answers(engine) == answers(make(loaded("llama", PATHS[0])))


def test_a_drafter_knows_what_it_takes_before_it_drafts() -> None:
    own = loaded("llama", PATHS[0], num_pages=5)
    draft = Drafter(own)
    draft.measure()
    seq = Sequence(1, np.full(60, 5, np.int32), SamplingParams(), limit=200, seed=0)
    assert draft.seconds > 0
    assert draft.catch_up_seconds(seq) > 0
    assert {own.pool.allocate() for _ in range(5)} == set(range(5))


def test_a_canvas_that_the_drafter_cannot_hold_is_not_drafted_for() -> None:
    draft = Drafter(loaded("llama", PATHS[0], num_pages=2))
    prompt = np.full(2 * PAGE, 5, np.int32)
    seq = Sequence(1, prompt, SamplingParams(), limit=200, seed=0)
    assert draft.follow(seq, (1,), 1) == []
    short = Sequence(2, prompt[:40], SamplingParams(), limit=200, seed=0)
    assert len(draft.follow(short, (1, 2), 3)) == 3


@pytest.mark.parametrize(
    ("proposer", "words"),
    [
        ("nonsense", "no proposer called"),
        ("draft", "needs a model"),
        ("draft:", "is no proposer"),
        ("lookahead:x", "is no proposer"),
    ],
)
def test_a_proposer_that_cannot_be_is_refused(proposer: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        proposing.choice(proposer)


def test_a_proposer_chooses_the_planner() -> None:
    config = EngineConfig("x", proposer="auto:small")
    settled = proposing.settled(config, is_causal=True, is_verified=True)
    assert (settled.planner, settled.options) == ("speculative", {"proposer": "auto"})
    draft = proposing.draft_config(config)
    assert draft is not None
    assert draft.model == "small"
    plain = EngineConfig("x", proposer="auto")
    assert proposing.settled(plain, is_causal=False, is_verified=True).planner == "auto"
    with pytest.raises(UserError, match="left to right"):
        proposing.settled(
            EngineConfig("x", proposer="lookahead"), is_causal=False, is_verified=True
        )
    with pytest.raises(UserError, match="drafts nothing"):
        proposing.settled(
            EngineConfig("x", proposer="lookahead", planner="block"),
            is_causal=True,
            is_verified=True,
        )


IDLE: list[tuple[dict[str, Any], str]] = [
    ({"proposer": "auto:small", "planner": "autoregressive"}, "use for a draft model"),
    ({"proposer": "auto:small", "decoder": "sample"}, "use for a draft model"),
    ({"proposer": "auto", "corpus": "x", "planner": "autoregressive"}, "use for a corpus"),
    ({"proposer": "auto", "corpus": "x", "decoder": "sample"}, "use for a corpus"),
    (
        {"corpus": "x", "planner": "speculative", "options": {"proposer": "none"}},
        "use for a corpus",
    ),
    (
        {"planner": "speculative", "decoder": "sample", "options": {"width": "8"}},
        "use for width and branches",
    ),
    (
        {"proposer": "draft:m", "planner": "speculative", "options": {"proposer": "lookahead"}},
        "two proposers, 'draft' and 'lookahead'",
    ),
]


@pytest.mark.parametrize(("config", "words"), IDLE, ids=str)
def test_what_drafts_alone_need_is_refused_where_nothing_drafts(
    config: dict[str, Any], words: str
) -> None:
    verified = config.get("decoder", "auto") == "auto"
    with pytest.raises(UserError, match=words) as caught:
        proposing.settled(EngineConfig("x", **config), is_causal=True, is_verified=verified)
    assert caught.value.hint


def test_a_planner_that_drafts_may_be_told_not_to() -> None:
    config = EngineConfig("x", proposer="none", planner="speculative")
    settled = proposing.settled(config, is_causal=True, is_verified=True)
    assert settled.options == {"proposer": "none"}


def test_a_request_that_drafts_nothing_takes_no_width() -> None:
    engine = make(loaded("llama", PATHS[0]), planner="speculative", options={"proposer": "auto"})
    for given in (
        {"planner": "speculative", "options": {"proposer": "none", "width": "8"}},
        {"planner": "speculative", "decoder": "sample", "options": {"width": "8"}},
        {"planner": "speculative", "decoder": "sample", "options": {"proposer": "lookahead"}},
    ):
        with pytest.raises(UserError, match="width"):
            engine.add([1, 2], SamplingParams(), **given)


def test_a_request_names_its_own_proposer() -> None:
    engine = make(loaded("llama", PATHS[0]))
    prompt, params = requests()[0]
    first = engine.add(prompt, params)
    second = engine.add(prompt, params, proposer="lookahead", options={"width": "4"})
    found = drain(engine)
    assert found[first].tokens == found[second].tokens
    with pytest.raises(UserError, match="no proposer"):
        engine.add(prompt, params, proposer="draft:some-model")
    with pytest.raises(UserError, match="draft model"):
        engine.add(prompt, params, proposer="draft")
