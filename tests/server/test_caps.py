"""What a request may take when it says nothing of it."""

from __future__ import annotations

import pytest

from plait import LLM
from plait.server.schema.completions import CompletionRequest
from tests.server.conftest import MODEL
from tests.server.running import Running, running, served


@pytest.mark.parametrize(
    ("most", "n", "tokens"),
    [(0, 1, 16), (0, 5, 16), (8, 1, 8), (100, 1, 16), (20, 4, 5), (2, 3, None)],
)
def test_a_completion_has_16_tokens_or_what_it_may(most: int, n: int, tokens: int | None) -> None:
    assert CompletionRequest(prompt="a", n=n).params(most).max_tokens == tokens


def test_a_small_cap_refuses_nobody_who_named_no_number() -> None:
    with (
        LLM(MODEL, max_model_len=128, max_request_tokens=8) as small,
        running(lambda: served(small, MODEL)) as server,
    ):
        server.ready()
        answer = server.post("/v1/completions", {"prompt": "a", "ignore_eos": True})
        assert answer.json()["usage"]["completion_tokens"] == 8
        pair = server.post("/v1/completions", {"prompt": "a", "n": 2, "ignore_eos": True})
        assert pair.json()["usage"]["completion_tokens"] == 8
        assert server.post("/v1/completions", {"prompt": "a", "n": 9}).status_code == 400
        assert server.post("/v1/completions", {"prompt": "a", "max_tokens": 9}).status_code == 400


def test_embeddings_end_at_their_deadline(server: Running) -> None:
    body = {"input": ["word " * 1500] * 20, "deadline": 0.05}
    answer = server.post("/v1/embeddings", body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (408, "deadline")
    bad = server.post("/v1/embeddings", {"input": "a", "deadline": -1})
    assert bad.status_code == 400
    assert server.post("/v1/embeddings", {"input": "a", "deadline": 60}).status_code == 200
