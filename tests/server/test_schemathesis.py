"""Requests that schemathesis makes of the server's own description, good ones and bad: none is its fault.

The default run makes few of each kind; `-m soak` many, and others each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from plait import LLM
from plait.server.app import GETS, POSTS
from tests.server.conftest import MODEL
from tests.server.running import Running, running, served

CALLS = [("POST", path) for path in POSTS] + [("GET", path.replace(":path", "")) for path in GETS]
FEW, MANY = 10, 300
"""Examples of each mode."""
MODES = list(schemathesis.GenerationMode)
"""What fits the description, and what does not."""
EXCLUSIVE = ("guided_", "structured_outputs", "response_format", "tool")
SECONDS = 30.0
"""For one answer: no request runs for long, so one that takes so long hangs."""


@pytest.fixture(scope="module")
def described() -> Iterator[Running]:
    """One that lets no request run for long."""
    with (
        LLM(MODEL, max_model_len=256, max_request_tokens=16, max_request_seconds=10.0) as llm,
        running(lambda: served(llm, MODEL)) as one,
    ):
        yield one.ready()


@pytest.fixture(scope="module")
def schema(described: Running) -> Any:
    return schemathesis.openapi.from_url(f"{described.url}/openapi.json")


def ask_often(server: Running, schema: Any, method: str, path: str, examples: int) -> set[int]:
    """The kinds of status that requests of both modes got, none of them a fault."""
    kinds = set()
    operation = schema[path][method]

    def ask(case: schemathesis.Case) -> None:
        if 400 in kinds and isinstance(case.body, dict):
            # Random fields of these contradict each other nearly always, and hide everything else.
            case.body = {k: v for k, v in case.body.items() if not k.startswith(EXCLUSIVE)}
            for message in case.body.get("messages") or ():
                if isinstance(message, dict) and message.get("content") is None:
                    message["content"] = "Hello"
        answer = case.call(base_url=server.url, timeout=SECONDS)
        kinds.add(answer.status_code)
        assert answer.status_code < 500, answer.text
        assert b"server_error" not in answer.content
        if answer.status_code >= 400:
            assert answer.json()["error"]["message"]

    rules = settings(
        max_examples=examples,
        deadline=None,
        derandomize=examples == FEW,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    for mode in MODES if method == "POST" else MODES[:1]:
        rules(given(operation.as_strategy(generation_mode=mode))(ask))()
    return kinds


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_no_request_is_the_servers_fault(
    described: Running, schema: Any, method: str, path: str
) -> None:
    kinds = ask_often(described, schema, method, path, FEW)
    assert kinds & {200, 404}
    if method == "POST":
        assert 400 in kinds


@pytest.mark.soak
@pytest.mark.parametrize(("method", "path"), CALLS)
def test_none_of_many_is_either(described: Running, schema: Any, method: str, path: str) -> None:
    ask_often(described, schema, method, path, MANY)
