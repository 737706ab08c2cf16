"""How full a server's KV cache is while a load runs, from the metrics that it exports."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from plait.analysis.load_client import Address, BrokenAnswerError, Connection

EVERY = 0.5
PATIENCE = 10.0
"""Seconds between two looks, and those that a look may take."""
GAUGES = (
    b"plait_kv_cache_usage",
    b"vllm:kv_cache_usage_perc",
    b"vllm:gpu_cache_usage_perc",
    b"llamacpp:kv_cache_usage_ratio",
)
"""What servers call the share of the cache that is in use."""


class Occupancy:
    """points: (seconds after the load began, share from 0 to 1); empty for a server that does not say."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.points: list[tuple[float, float]] = []

    async def follow(self, now: Callable[[], float]) -> None:
        """Look again and again, until cancelled or until the server shows that it has nothing to say."""
        try:
            while (share := await self._look()) is not None:
                self.points.append((now(), share))
                await asyncio.sleep(EVERY)
        except (OSError, EOFError, ValueError, BrokenAnswerError):
            return  # the load itself will say what is wrong with the server

    async def _look(self) -> float | None:
        async with (
            asyncio.timeout(PATIENCE),
            Connection(self.address, "GET", "/metrics") as answer,
        ):
            lines = [line async for line in answer.lines()] if answer.status == 200 else []
        return next((float(line.split()[-1]) for line in lines if line.startswith(GAUGES)), None)
