"""Drafting behind the API: what a request may choose, what is refused, what is told of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from plait import LLM
from tests.llm.fakes import make_llm
from tests.server.running import Running, running, served

ASKED: dict[str, Any] = {
    "prompt": [3, 1, 4, 1, 5, 3, 1, 4, 1, 5, 3, 1],
    "max_tokens": 48,
    "temperature": 0,
    "ignore_eos": True,
    "logit_bias": {"3": 100},
}


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    with pytest.MonkeyPatch.context() as patch, make_llm(patch) as one:
        yield one


@pytest.fixture(scope="module")
def server(llm: LLM) -> Iterator[Running]:
    with running(lambda: served(llm, "plain")) as one:
        yield one.ready()


def test_a_request_chooses_its_proposer_and_gets_the_same_answer(server: Running) -> None:
    answers = [
        server.post("/v1/completions", ASKED | more).json()
        for more in (
            {"proposer": "none"},
            {},
            {"proposer": "lookahead", "options": {"width": 4}},
            {"proposer": "auto"},
        )
    ]
    assert len({answer["choices"][0]["text"] for answer in answers}) == 1
    plain, by_default, fixed, chosen = (answer["timings"] for answer in answers)
    assert plain["draft_n"] == 0
    assert plain["draft_gain"] is None
    for timings in (by_default, fixed, chosen):
        assert sum(timings["draft_n_by_place"]) == timings["draft_n"] > 0
        assert sum(timings["draft_n_accepted_by_place"]) == timings["draft_n_accepted"]
        assert timings["draft_ms"] > 0
        assert timings["draft_gain"] > 0
    assert len(fixed["draft_n_by_place"]) <= 4


@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        ("nonsense", "lookahead"),
        ("", "lookahead"),
        ("draft:some-model", "lookahead"),
        ("../none", "lookahead"),
        ("draft", "--proposer draft:MODEL"),
        ("x" * 33, "32"),
        (7, "string"),
        (["lookahead"], "string"),
    ],
)
def test_a_proposer_that_cannot_be_is_refused(server: Running, value: Any, accepted: str) -> None:
    answer = server.post("/v1/completions", ASKED | {"proposer": value})
    assert answer.status_code == 400
    assert accepted in answer.json()["error"]["message"]


def test_a_planner_that_drafts_nothing_has_no_proposer(server: Running) -> None:
    fields = {"proposer": "lookahead", "planner": "autoregressive"}
    answer = server.post("/v1/completions", ASKED | fields)
    assert answer.status_code == 400
    assert "speculative" in answer.json()["error"]["message"]


def test_the_metrics_tell_how_far_drafts_were_right(server: Running) -> None:
    fields = {"proposer": "lookahead", "options": {"width": 3}}
    assert server.post("/v1/completions", ASKED | fields).status_code == 200
    lines = server.http.get("/metrics").text.splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if line.startswith("plait_"))
    first = float(values['plait_drafted_by_place_total{place="1"}'])
    assert first >= float(values['plait_accepted_by_place_total{place="1"}']) > 0
    assert first >= float(values['plait_drafted_by_place_total{place="2"}'])
    for name in ("draft", "plain_decode", "decode"):
        assert float(values[f"plait_{name}_seconds_total"]) > 0
