"""Put a load on a server with OpenAI's API and see how it answers: the generator behind `plait bench serve`.

Every request is a greedy streamed completion on a connection of its own. Open loop: requests begin when
they are due, however many are under way, so a server that falls behind is seen to fall behind.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from plait.analysis.load_client import Address, Answer, BrokenAnswerError, Connection
from plait.analysis.load_occupancy import Occupancy
from plait.analysis.load_plan import Ask, plan
from plait.analysis.workload import Load
from plait.core.errors import UserError

PERCENTILES = (50, 90, 95, 99)
STRAGGLES = 3
SHOWN = 200
"""Characters of an error's text that are kept."""


@dataclass(slots=True)
class Sample:
    """One request. Times are seconds after the load began.

    due: when it should have begun; began: when it did. times: arrival of every piece of `text`.
    turn: of its conversation, from 0.
    prompt_tokens, tokens: by the server's own count; without one, tokens are the pieces and prompt_tokens 0.
    error: empty for an answer that was complete; else the status, "refused", "broken" or "timeout".
    """

    due: float
    began: float
    turn: int = 0
    text: str = ""
    times: list[float] = field(default_factory=list)
    ended: float = 0.0
    prompt_tokens: int = 0
    tokens: int = 0
    error: str = ""
    said: str = ""

    @property
    def first(self) -> float:
        """Seconds to the first text, from when the request was due: TTFT."""
        return self.times[0] - self.due

    @property
    def each(self) -> float:
        """Seconds per token after the first: TPOT. There must be two tokens."""
        return (self.times[-1] - self.times[0]) / (self.tokens - 1)


class Generator:
    """Sends a load to a server. model: its name there; patience: seconds until a request counts as lost."""

    def __init__(self, address: Address, model: str, load: Load, patience: float) -> None:
        self.address, self.model, self.load, self.patience = address, model, load, patience
        self.asks = plan(load)
        self.samples: list[Sample] = []
        self.occupancy = Occupancy(address)

    def run(self) -> list[Sample]:
        """Every request that was begun, in the order in which they ended."""
        asyncio.run(self.drive())
        return self.samples

    async def drive(self) -> None:
        """The same beside others in one loop; what has ended is in `samples`, also when it is cancelled."""
        self._zero = time.perf_counter()
        following = asyncio.create_task(self.occupancy.follow(self._now))
        try:
            await (self._open() if self.load.rate else self._closed())
        finally:
            following.cancel()

    async def _closed(self) -> None:
        waiting = iter(self.asks)
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self.load.concurrency, len(self.asks))):
                group.create_task(self._lane(waiting))

    async def _open(self) -> None:
        async with asyncio.TaskGroup() as group:
            for ask in self.asks:
                await asyncio.sleep(ask.at - self._now())
                group.create_task(self._one(ask, ask.at))

    async def _lane(self, waiting: Iterator[Ask]) -> None:
        """One of the requests that are always under way."""
        for ask in waiting:
            if self._now() > self.load.seconds:
                return
            await self._one(ask, self._now())

    async def _one(self, ask: Ask, due: float) -> None:
        """The turns of a conversation, each with all that was said before it; usually there is one."""
        said = ""
        for turn, prompt in enumerate(ask.prompts):
            sample = Sample(due, self._now(), turn)
            said += prompt
            await self._turn(said, ask.tokens, sample)
            said += sample.text
            due = sample.ended
            if sample.error or due > self.load.seconds:
                return

    async def _turn(self, prompt: str, tokens: int, sample: Sample) -> None:
        try:
            async with asyncio.timeout(self.patience):
                await self._stream(prompt, tokens, sample)
        except TimeoutError:
            sample.error = "timeout"
        except ConnectionRefusedError as error:
            sample.error, sample.said = "refused", str(error)[:SHOWN]
        except (asyncio.IncompleteReadError, OSError, BrokenAnswerError) as error:
            sample.error, sample.said = "broken", str(error)[:SHOWN]
        sample.ended = self._now()
        self.samples.append(sample)

    async def _stream(self, prompt: str, tokens: int, sample: Sample) -> None:
        body = {
            "model": self.model,
            "prompt": prompt,
            "max_tokens": tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        async with Connection(self.address, "POST", "/v1/completions", body) as answer:
            if answer.status == 200:
                await self._read(answer, sample)
            else:
                sample.error = str(answer.status)
                lines = [line async for line in answer.lines()]
                sample.said = b" ".join(lines).decode(errors="replace")[:SHOWN]

    async def _read(self, answer: Answer, sample: Sample) -> None:
        async for line in answer.lines():
            if line == b"data: [DONE]":
                sample.tokens = sample.tokens or len(sample.times)
                return
            if line.startswith(b"data:"):
                self._take(line[5:], sample)
        raise BrokenAnswerError("no end of the stream")

    def _take(self, data: bytes, sample: Sample) -> None:
        now = self._now()
        try:
            chunk = json.loads(data)
            if "error" in chunk:
                raise BrokenAnswerError(str(chunk["error"]))
            if text := "".join(choice["text"] for choice in chunk["choices"]):
                sample.times.append(now)
                sample.text += text
            if usage := chunk.get("usage"):
                sample.prompt_tokens = usage["prompt_tokens"]
                sample.tokens = usage["completion_tokens"]
        except (ValueError, LookupError, TypeError) as error:
            raise BrokenAnswerError(f"{type(error).__name__} in {data[:80]!r}") from None

    def _now(self) -> float:
        return time.perf_counter() - self._zero


def first_model(address: Address, patience: float) -> str:
    """Name of the first model that a server lists. Raises UserError when it does not say."""

    async def ask() -> str:
        async with (
            asyncio.timeout(patience),
            Connection(address, "GET", "/v1/models") as answer,
        ):
            if answer.status != 200:
                raise BrokenAnswerError(f"status {answer.status}")
            listed = await answer.json()
            return str(listed["data"][0]["id"])

    where = f"{address.host}:{address.port}"
    try:
        return asyncio.run(ask())
    except (LookupError, TypeError, EOFError, BrokenAnswerError) as error:
        raise UserError(f"{where} lists no model: {error}", "name it with --model") from None
    except OSError as error:
        raise UserError(f"no server at {where}: {error}", "start one with `plait serve`") from None


def summary(samples: list[Sample], load: Load, goal: tuple[float, float]) -> dict[str, Any]:
    """What a load showed. Seconds, requests and tokens per second, shares.

    goal: seconds to the first token and per further token that count as good (goodput).
    """
    done = [sample for sample in samples if not sample.error]
    seconds = max((sample.ended for sample in samples), default=0.0)
    long = [sample for sample in done if sample.tokens > 1 and len(sample.times) > 1]
    gaps = [np.diff(sample.times) for sample in long]
    latencies = [sample.ended - sample.due for sample in done]
    good = [
        s for s in done if s.times and s.first <= goal[0] and (s not in long or s.each <= goal[1])
    ]
    return {
        "requests": len(samples),
        "answered": len(done),
        "errors": _errors(samples),
        "seconds": seconds,
        "requests_per_second": len(done) / seconds if seconds else 0.0,
        "tokens_per_second": sum(s.tokens for s in done) / seconds if seconds else 0.0,
        "prompt_tokens": sum(s.prompt_tokens for s in done),
        "tokens": sum(s.tokens for s in done),
        "time_to_first_token": percentiles([s.first for s in done if s.times]),
        "time_per_output_token": percentiles([s.each for s in long]),
        "time_between_pieces": percentiles(np.concatenate(gaps) if gaps else []),
        "latency": percentiles(latencies),
        "stragglers": _stragglers(latencies),
        "goodput": {
            "goal": list(goal),
            "requests_per_second": len(good) / seconds if seconds else 0.0,
        },
        "arrivals": _arrivals(samples) if load.rate else {},
    }


def percentiles(values: Any) -> dict[str, float]:
    """p50, p90, p95, p99 and the largest; nothing for no values."""
    if not len(values):
        return {}
    found = np.percentile(values, PERCENTILES).tolist()
    named = {f"p{share}": value for share, value in zip(PERCENTILES, found, strict=True)}
    return {**named, "max": float(np.max(values))}


def _stragglers(latencies: list[float]) -> int:
    """Answers that took more than STRAGGLES times as long as the median."""
    usual = float(np.median(latencies)) if latencies else 0.0
    return sum(latency > STRAGGLES * usual for latency in latencies)


def _errors(samples: list[Sample]) -> dict[str, dict[str, Any]]:
    """Kind of error -> how many, and what the first of them said."""
    found: dict[str, dict[str, Any]] = {}
    for sample in samples:
        if sample.error:
            found.setdefault(sample.error, {"count": 0, "first": sample.said})["count"] += 1
    return found


def _arrivals(samples: list[Sample]) -> dict[str, float]:
    """The load as it was: rate, variation, and the seconds by which the generator itself was late at most."""
    first = [sample for sample in samples if sample.turn == 0]
    gaps = np.diff(np.sort([sample.began for sample in first]), prepend=0.0)
    late = max(sample.began - sample.due for sample in first)
    variation = float(gaps.std() / gaps.mean())
    return {"rate": float(1 / gaps.mean()), "variation": variation, "latest_start": late}
