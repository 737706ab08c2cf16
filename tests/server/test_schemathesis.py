"""Requests that schemathesis makes of the server's own description, good ones and bad: none is its fault.

The default run makes few of each kind; `-m soak` many, and others each time.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings

from plait import LLM
from tests.server.conftest import MODEL
from tests.server.running import Running, running, served

WHOLE = [Phase.explicit, Phase.generate]
QUICK = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    database=None,
    phases=WHOLE,
    suppress_health_check=list(HealthCheck),
)
LONG = settings(
    max_examples=400,
    deadline=None,
    phases=WHOLE,
    suppress_health_check=list(HealthCheck),
)
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


@pytest.fixture
def description(described: Running) -> schemathesis.BaseSchema:
    found = schemathesis.openapi.from_url(f"{described.url}/openapi.json")
    assert len(list(found.get_all_operations())) >= 12
    return found


schema = schemathesis.pytest.from_fixture("description")


def refuse_faults(case: schemathesis.Case, described: Running) -> None:
    answer = case.call(base_url=described.url, timeout=SECONDS)
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400 and case.method == "POST":
        assert answer.json()["error"]["message"]
    assert b"server_error" not in answer.content


@schema.parametrize()
@QUICK
def test_no_request_is_the_servers_fault(case: schemathesis.Case, described: Running) -> None:
    refuse_faults(case, described)


@pytest.mark.soak
@schema.parametrize()
@LONG
def test_none_of_many_is_either(case: schemathesis.Case, described: Running) -> None:
    refuse_faults(case, described)
