"""One server over the smallest real model, for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from plait import LLM
from tests.server.running import Running, running, served

MODEL = "smollm2-135m"


@pytest.fixture(scope="session")
def llm() -> Iterator[LLM]:
    with LLM(MODEL, max_model_len=2048, max_num_seqs=16) as one:
        yield one


@pytest.fixture(scope="session")
def server(llm: LLM) -> Iterator[Running]:
    with running(lambda: served(llm, MODEL, "alias")) as one:
        yield one.ready()
