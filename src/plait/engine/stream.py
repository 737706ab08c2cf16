"""Events of one request as an iterator: `Stream` for threads, `AsyncStream` for asyncio.

Both end after the last event of every choice. `close` cancels what still runs; a stream that is dropped
half-way should be closed, or left through `with`.
"""

from __future__ import annotations

import contextlib
import queue
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from plait.core.sequence import Event

if TYPE_CHECKING:
    import asyncio

Cancel = Callable[[int], None]


class _Open:
    """Which choices have not ended yet. ids[i] is the request id of choice i."""

    def __init__(self, cancel: Cancel) -> None:
        self._cancel = cancel
        self.ids: list[int] = []
        self._open: set[int] = set()

    def opened(self, ids: list[int]) -> None:
        self.ids, self._open = ids, set(ids)

    def _seen(self, event: Event) -> Event:
        if event.finish_reason:
            self._open.discard(event.request_id)
        return event

    def close(self) -> None:
        """Cancel what still runs; nothing more comes."""
        for request_id in self._open:
            self._cancel(request_id)
        self._open = set()


class Stream(_Open, Iterator[Event]):
    """Blocks until there is an event."""

    def __init__(self, cancel: Cancel) -> None:
        super().__init__(cancel)
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.put = self._events.put

    def __next__(self) -> Event:
        if not self._open:
            raise StopIteration
        return self._seen(self._events.get())

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class AsyncStream(_Open, AsyncIterator[Event]):
    """Belongs to the event loop that runs when it is made."""

    def __init__(self, cancel: Cancel) -> None:
        super().__init__(cancel)
        import asyncio  # only a server needs it: half as long to load as the templates of chats

        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()

    def put(self, event: Event) -> None:
        """Called in the worker's thread. An event for a loop that has been closed is for nobody."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def __anext__(self) -> Event:
        if not self._open:
            raise StopAsyncIteration
        return self._seen(await self._events.get())

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
