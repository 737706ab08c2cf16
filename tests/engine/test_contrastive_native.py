"""Two streams over the native executor, and a real second model as the amateur."""

from __future__ import annotations

from pathlib import Path as File

import pytest

from plait import LLM
from plait.core.aids import Aids
from plait.core.config import EngineConfig
from plait.core.errors import UserError
from plait.engine.build import assemble
from plait.engine.engine import Engine
from plait.runner.drafter import Drafter
from tests.engine.test_native import PATHS
from tests.engine.test_speculation_native import Path, loaded, make, requests
from tests.fakes import drain

CLASSIC = {"mix": "logits", "uncertainty": "1", "head": "0.1", "floor": "0"}


def contrasting(path: Path, weak: Drafter | None = None, **options: str) -> Engine:
    own = loaded("llama", path, num_pages=128)
    aids = Aids(amateur=weak, amateur_name="small" if weak else "")
    config = EngineConfig("x", decoder="contrastive", options=options)
    return assemble(config, own.runner, own.traits, own.pool, own.threads, aids=aids)


@pytest.mark.parametrize("path", PATHS, ids=str)
def test_a_batch_gives_what_each_request_gives_alone(path: Path) -> None:
    together = contrasting(path, keep="8", uncertainty="0.5")
    asked = [request for request in requests() if len(request[0]) > 8]
    ids = [together.add(*request) for request in asked]
    found = drain(together)
    for key, request in zip(ids, asked, strict=True):
        alone = contrasting(path, keep="8", uncertainty="0.5")
        single = alone.add(*request)
        assert drain(alone)[single].tokens == found[key].tokens


@pytest.mark.parametrize("path", PATHS, ids=str)
def test_an_amateur_that_is_the_model_itself_takes_nothing_off(path: Path) -> None:
    """(1 + s) log p - s log p = log p; at temperature 0 what `head` rules out is never the best."""
    asked = [request for request in requests() if request[1].is_greedy]
    plain, same, other = (
        make(loaded("llama", path)),
        contrasting(path, Drafter(loaded("llama", path)), amateur="small", **CLASSIC),
        contrasting(path, Drafter(loaded("llama", path, seed=1)), amateur="small", **CLASSIC),
    )
    said = []
    for engine in (plain, same, other):
        ids = [engine.add(*request) for request in asked if not request[1].has_penalties]
        found = drain(engine)
        said.append([found[i].tokens for i in ids])
    assert said[0] == said[1]
    assert said[0] != said[2]


def test_an_amateur_that_runs_out_of_pages_ends_the_request_and_says_so() -> None:
    few = Drafter(loaded("llama", PATHS[0], num_pages=2))
    engine = contrasting(PATHS[0], few, amateur="small", **CLASSIC)
    long, short = requests()[7], requests()[1]
    first, second = engine.add(*long), engine.add(*short)
    found = drain(engine)
    assert "cannot hold a canvas" in (found[first].error or "")
    assert len(found[second].tokens) == 40


TRIMODE = File(__file__).parents[2] / "models" / "trimode"


def test_an_amateur_of_another_vocabulary_is_refused() -> None:
    settings = {
        "decoder": "contrastive",
        "options": {"amateur": str(TRIMODE)},
        "kv_memory": 1 << 26,
    }
    with pytest.raises(UserError, match="another vocabulary"):
        LLM("smollm2-135m", **settings)
