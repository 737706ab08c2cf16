"""A server as a child: it answers a load, it may fail, and it is gone afterwards."""

from __future__ import annotations

import os
import sys

import pytest

from plait.analysis.tuning.served import FailedError, Served
from plait.analysis.workload import Load

LOAD = Load(requests=3, concurrency=2, prompt_words=4, tokens=5, seed=9)


def little(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tests.analysis.tuning.little", *arguments]


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_load_is_answered_and_the_server_is_gone() -> None:
    with Served(little("0.001")) as server:
        pid = server._process.pid
        found = server.measure("m", LOAD, 60.0)
        assert is_running(pid)
    assert not is_running(pid)
    assert (found.seed, found.errors) == (9, {})
    assert [one.tokens for one in found.answers] == [5, 5, 5]
    assert all(one.each for one in found.answers)


def test_a_load_that_takes_too_long_is_cut() -> None:
    with Served(little("0.2")) as server, pytest.raises(FailedError, match="more than 0 s"):
        server.measure("m", LOAD, 0.1)


def test_a_server_that_does_not_start_says_why() -> None:
    with pytest.raises(FailedError, match="could not convert string to float: 'none'"):
        Served(little("none")).__enter__()


def test_settings_of_the_environment_are_not_for_the_servers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PLAIT_MAX_NUM_SEQS", "3")
    monkeypatch.setenv("PLAIT_HOME", "here")
    program = "import os, sys; sys.exit(' '.join(n for n in os.environ if n.startswith('PLAIT_')))"
    with pytest.raises(FailedError, match="^PLAIT_HOME$"):
        Served([sys.executable, "-c", program]).__enter__()
