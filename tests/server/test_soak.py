"""Minutes of load on a real server: `pytest -m soak`, PLAIT_SOAK_SECONDS for another time than ten minutes.

Requests arrive in bursts; others leave in the middle, are nonsense, are longer than the memory holds, or make
the engine fail. At the end every request was answered or refused, no page is in use, and memory is flat.

**Flat** is judged by the process's resident memory, looked at twice a second. It may grow while the pages of the
K/V memory are touched for the first time: the prefix cache keeps what it can, and a page once touched is never given
back to the system. So first that memory is filled with requests that nobody sends again. After that the median of
the last third of the time may exceed that of the second third by `MOST_GROWTH` at most.
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
from plait.analysis.workload import Load
from tests.server.faulty import FAULTS
from tests.server.live import LONGEST, MODEL, LiveServer, Watch

SECONDS = float(os.environ.get("PLAIT_SOAK_SECONDS", "600"))
pytestmark = [pytest.mark.soak, pytest.mark.timeout(SECONDS + 300)]
RATE = 1.0
KV_BYTES = 32 << 20
"""A bit more than one longest request takes: all others have to make room for it, and what is kept for later goes."""
MOST_GROWTH = 4 << 20
"""Bytes that the process may have more in the last third of the time than in the second: of `KV_BYTES` an eighth,
and of what the loads of the last third were a few hundred bytes per request."""
PAUSE = 0.5


@pytest.fixture
def server() -> Iterator[LiveServer]:
    """Memory for hardly more than one longest request, so that requests have to wait and to make room."""
    options = ["--kv-memory", str(KV_BYTES), "--max-num-seqs", "8", "--ctx", "1024"]
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


def is_long(server: LiveServer, chance: random.Random) -> str:
    """As long as a request can be, and like no other: it takes nearly all memory and fills the cache."""
    prompt = [chance.randrange(1000, 40_000) for _ in range(900)]
    return str(server.complete(prompt=prompt, max_tokens=100, ignore_eos=True)[0])


def fails(server: LiveServer, chance: random.Random) -> str:
    """In the middle of its answer, if the forward is what fails."""
    status, answer = server.complete(seed=chance.choice(FAULTS), max_tokens=20, ignore_eos=True)
    code = json.loads(answer).get("error", {}).get("code")
    return "500" if (status, code) == (500, "engine_error") else f"{status} {answer!r}"


def is_the_same(server: LiveServer) -> str:
    """Whatever else goes on, the same question has the same answer."""
    status, answer = server.complete(prompt="The sea is", max_tokens=16)
    return json.loads(answer)["choices"][0]["text"] if status == 200 else str(status)


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
    for _ in range(3):
        assert is_long(server, chance) == "200"
    with Watch(server):
        troubles = [
            Trouble(lambda: leaves(server, chance)),
            Trouble(lambda: is_nonsense(server, chance)),
            Trouble(lambda: fails(server, chance)),
            Trouble(lambda: is_long(server, chance), pause=5),
            Trouble(lambda: is_the_same(server), pause=2),
            Trouble(lambda: str(memory.append(server.resident()))),
        ]
        samples = generator.run()
        left, nonsense, failed, long, same, _ = [trouble.end() for trouble in troubles]
    assert set(left) == {"left"}
    assert set(nonsense) == {"400"}
    assert set(failed) == {"500"}
    assert set(long) == {"200"}
    assert len(same) == 1, same
    check(generator, samples)
    print("resident MiB, every twelfth of the time:", twelfths(memory))
    part = len(memory) // 3
    growth = median(memory[-part:]) - median(memory[part : 2 * part])
    assert growth < MOST_GROWTH
    assert_nothing_is_left(server)
    counts = [len(samples), *(sum(seen.values()) for seen in (left, nonsense, failed, long, same))]
    print("requests: load, left, nonsense, failed, long, the same:", counts)
    print("preemptions:", server.gauges()["plait_preemptions_total"], "growth in bytes:", growth)


def twelfths(memory: list[int]) -> list[float]:
    part = len(memory) // 12
    return [round(median(memory[part * i : part * (i + 1)]) / 2**20, 1) for i in range(12)]


def check(generator: Generator, samples: list[Sample]) -> None:
    """Every request had an end, and all of them a good one: another's fault is not theirs."""
    assert len(samples) == len(generator.asks)
    ends = Counter((sample.error, sample.said) for sample in samples)
    assert set(ends) == {("", "")}, ends


def assert_nothing_is_left(server: LiveServer) -> None:
    until = time.monotonic() + LONGEST
    while server.gauges()["plait_requests_running"] and time.monotonic() < until:
        time.sleep(0.1)
    gauges = server.gauges()
    assert gauges["plait_requests_running"] == gauges["plait_requests_waiting"] == 0
    assert gauges["plait_kv_cache_usage"] == 0
    assert gauges["plait_preemptions_total"] > 0, (
        "there was memory for all, and there should not be"
    )
    assert server.complete()[0] == 200
