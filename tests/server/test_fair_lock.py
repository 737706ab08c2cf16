"""Whose turn it is."""

from __future__ import annotations

import asyncio

from plait.server.fair_lock import FairLock


def test_tenants_take_turns_however_often_one_asks() -> None:
    async def hold(lock: FairLock, tenant: str, order: list[str]) -> None:
        async with lock.held_for(tenant):
            order.append(tenant)
            await asyncio.sleep(0)

    async def run() -> list[str]:
        lock, order = FairLock(), list[str]()
        async with asyncio.TaskGroup() as group:
            for tenant in "aaaabbc":
                group.create_task(hold(lock, tenant, order))
        return order

    assert "".join(asyncio.run(run())) == "aabcaba"


def test_who_leaves_while_waiting_or_when_called_holds_nobody_up() -> None:
    async def run() -> None:
        lock = FairLock()

        async def hold() -> None:
            async with lock.held_for("a"):
                pass

        async with lock.held_for("a"):
            waiting = [asyncio.create_task(hold()) for _ in range(3)]
            await asyncio.sleep(0)
            waiting[0].cancel()
            await asyncio.sleep(0)
        waiting[1].cancel()  # it has just been called
        await asyncio.gather(*waiting, return_exceptions=True)
        assert [task.cancelled() for task in waiting] == [True, True, False]
        async with asyncio.timeout(1), lock.held_for("b"):
            pass

    asyncio.run(run())
