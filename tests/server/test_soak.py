"""Minutes of load on a real server: `pytest -m soak`, PLAIT_SOAK_SECONDS for another time than ten minutes.

Requests arrive in bursts; others leave in the middle, are nonsense, are longer than the memory holds, or make
the engine fail. At the end every request was answered or refused, no page is in use, and memory is flat.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import pytest

from plait.analysis.load import Generator, Sample
from plait.analysis.load_client import Address
from plait.analysis.load_plan import Load
from tests.server.faulty import CRASH, FAULT
from tests.server.live import LONGEST, MODEL, LiveServer, Watch

pytestmark = pytest.mark.soak

SECONDS = float(os.environ.get("PLAIT_SOAK_SECONDS", "600"))
RATE = 1.0
MOST_GROWTH = 32 << 20
"""Bytes that the process may have more in the last third of the time than in the second."""
PAUSE = 0.5


@pytest.fixture
def server() -> Iterator[LiveServer]:
    """Memory for a few thousand tokens, so that requests have to wait and to make room."""
    options = ["--kv-memory", "64M", "--max-num-seqs", "8", "--ctx", "1024"]
    one = LiveServer(*options, module="tests.server.faulty")
    yield one
    assert one.close() == 0


class Trouble:
    """Clients of one kind, one after the other in a thread of its own, until `end`."""

    def __init__(self, act: Callable[[], str], pause: float = PAUSE) -> None:
        """act: one client; returns what came of it. pause: seconds between two."""
        self.seen: Counter[str] = Counter()
        self._pause = pause
        self._act = act
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> Counter[str]:
        self._stop.set()
        self._thread.join(2 * LONGEST)
        assert not self._thread.is_alive(), "a client was never answered"
        return self.seen

    def _run(self) -> None:
        while not self._stop.wait(self._pause):
            try:
                self.seen[self._act()] += 1
            except OSError as error:
                self.seen[type(error).__name__] += 1


def leaves(server: LiveServer, chance: random.Random) -> str:
    content = json.dumps(
        {"model": MODEL, "prompt": "Once", "max_tokens": 900, "ignore_eos": True, "stream": True}
    ).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    with server.connect() as one:
        one.sendall(head.encode() + content)
        time.sleep(chance.random())
    return "left"


def is_nonsense(server: LiveServer, chance: random.Random) -> str:
    fields: dict[str, Any] = chance.choice(
        [{"max_tokens": -1}, {"temperature": "hot"}, {"prompt": "word " * 5000}, {"top_p": 7}]
    )
    return str(server.complete(**fields)[0])


def fails(server: LiveServer, seed: int) -> str:
    status, answer = server.complete(seed=seed)
    return "500" if status == 500 and b"Traceback" not in answer else f"{status} {answer!r}"


def test_a_long_bad_day(server: LiveServer) -> None:
    chance = random.Random(6)
    load = Load(
        requests=int(2 * RATE * SECONDS) + 10,
        seconds=SECONDS,
        rate=RATE,
        variation=3.0,
        prompt_words=100,
        tokens=40,
        spread=0.9,
        seed=6,
    )
    memory: list[int] = []
    generator = Generator(Address(server.url), MODEL, load, patience=LONGEST)
    with Watch(server):
        troubles = [
            Trouble(lambda: leaves(server, chance)),
            Trouble(lambda: is_nonsense(server, chance)),
            Trouble(lambda: fails(server, FAULT)),
            Trouble(lambda: fails(server, CRASH), pause=SECONDS / 4),
            Trouble(lambda: str(memory.append(server.resident()))),
        ]
        samples = generator.run()
        left, nonsense, failed, crashed, _ = [trouble.end() for trouble in troubles]
    assert set(left) == {"left"}
    assert set(nonsense) == {"400"}
    assert set(failed) == set(crashed) == {"500"}
    check(generator, samples)
    part = len(memory) // 3
    assert median(memory[-part:]) - median(memory[part : 2 * part]) < MOST_GROWTH
    assert_nothing_is_left(server)


def check(generator: Generator, samples: list[Sample]) -> None:
    """Every request had an end, and most of them a good one."""
    assert len(samples) == len(generator.asks)
    ends = Counter(sample.error for sample in samples)
    said = {sample.said for sample in samples if sample.error == "broken"}
    assert not [one for one in said if "fault" in one], "one request's fault is no other's"
    assert set(ends) <= {"", "429", "503", "broken"}, ends
    assert all("a crash that a test put here" in one for one in said), said
    assert ends[""] > len(samples) / 2, ends


def assert_nothing_is_left(server: LiveServer) -> None:
    until = time.monotonic() + LONGEST
    while server.gauges()["plait_requests_running"] and time.monotonic() < until:
        time.sleep(0.1)
    gauges = server.gauges()
    assert gauges["plait_requests_running"] == gauges["plait_requests_waiting"] == 0
    assert gauges["plait_kv_cache_usage"] == 0
    assert server.complete()[0] == 200
