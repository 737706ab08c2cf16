"""The worker: one thread owns the engine, every other thread talks to it through here.

Requests, cancellations and calls go into an inbox that the thread empties between two steps. Events come
back through a callback per request, called in the worker's thread (it should be quick), or through one of two
iterators made of it: `stream` for threads, `stream_async` for asyncio.

Whatever happens, every request that was submitted gets exactly one last event per choice. A fault of one request
is its own (isolation.py); if a step raises all the same, there is no memory or a part of the engine is broken:
then all requests end with reason ERROR, and the worker goes on with new ones.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from collections.abc import Sequence as Listing
from concurrent.futures import Future
from typing import Any, TypeVar

from plait.core.params import SamplingParams
from plait.core.sequence import Event
from plait.core.window import FinishReason
from plait.engine import snapshot
from plait.engine.engine import Engine
from plait.engine.reading import Reading as Reading
from plait.engine.snapshot import Snapshot
from plait.engine.stream import AsyncStream as AsyncStream
from plait.engine.stream import Stream
from plait.kernels.plan import trim_heap

log = logging.getLogger(__name__)

TIDY_EVERY = 20.0
"""Seconds at least; it takes a few milliseconds, and only a request that comes in just then waits for it."""

Result = TypeVar("Result")
OnEvent = Callable[[Event], None]


class Worker:
    """Starts its thread at once; `shutdown` ends it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._listeners: dict[int, OnEvent] = {}
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._lock = threading.RLock()  # a finalizer may call shutdown at any moment
        self._is_closed = False
        self._must_drain = True
        self._tidied = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="plait-engine", daemon=True)
        self._thread.start()

    def submit(
        self, prompt: Listing[int], params: SamplingParams, on_event: OnEvent, **choices: Any
    ) -> list[int]:
        """Queue a request; returns one request id per choice.

        choices: priority, tenant, deadline, planner, decoder, options, cache_salt, watch, as for `Engine.prepare`. Raises UserError
        at once, in the caller's thread, BusyError among them, and RuntimeError after `shutdown`.
        """
        requests = self.engine.prepare(prompt, params, **choices)
        self.engine.backlog.enter(requests)
        ids = [request.seq.request_id for request in requests]

        def enqueue() -> None:
            self._listeners |= dict.fromkeys(ids, on_event)
            self.engine.enqueue(requests)

        try:
            self._post(enqueue)
        except RuntimeError:
            for request_id in ids:
                self.engine.backlog.leave(request_id)
            raise
        return ids

    def finish(self, request_id: int, reason: FinishReason) -> None:
        """End a request soon; its last event says why. Nothing happens if it has ended."""

        def finish() -> None:
            event = self.engine.finish(request_id, reason)
            self._dispatch([event] if event else [])

        self._post(finish, even_if_closed=True)

    def cancel(self, request_id: int) -> None:
        """End a request whose answer nobody wants any more."""
        self.finish(request_id, FinishReason.CANCELLED)

    def call(self, function: Callable[[Engine], Result]) -> Future[Result]:
        """Run a function of the engine between two steps; not if the future is cancelled before."""
        future: Future[Result] = Future()

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return  # whoever asked does not wait any more
            try:
                future.set_result(function(self.engine))
            except Exception as error:  # it belongs to whoever asked
                future.set_exception(error)

        self._post(call)
        return future

    def snapshot(self) -> Snapshot:
        """What goes on; from any thread, without waiting for a step to end."""
        return snapshot.take(self.engine)

    def stream(self, prompt: Listing[int], params: SamplingParams, **choices: Any) -> Stream:
        """`submit` with an iterator over the events, for threads."""
        stream = Stream(self.cancel)
        stream.opened(self.submit(prompt, params, stream.put, **choices))
        return stream

    def stream_async(
        self, prompt: Listing[int], params: SamplingParams, **choices: Any
    ) -> AsyncStream:
        """`submit` with an iterator over the events, for the running event loop."""
        stream = AsyncStream(self.cancel)
        stream.opened(self.submit(prompt, params, stream.put, **choices))
        return stream

    def shutdown(self, *, drain: bool = False, timeout: float | None = None) -> None:
        """End the thread: after the running requests have ended (drain), or now, cancelling them."""
        with self._lock:
            self._is_closed = True
            self._must_drain = self._must_drain and drain
            self._inbox.put(lambda: None)
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def _post(self, action: Callable[[], None], *, even_if_closed: bool = False) -> None:
        with self._lock:
            if self._is_closed and not even_if_closed:
                raise RuntimeError("the engine has been shut down")
            self._inbox.put(action)

    def _run(self) -> None:
        try:
            self._loop()
            self._dispatch(self.engine.end_all(FinishReason.CANCELLED))
        except Exception as error:  # nobody may wait for a thread that is gone
            log.exception("the engine's thread died")
            text = f"the engine died: {type(error).__name__}: {error}"
            with self._lock:
                self._is_closed = True
            self._empty_inbox()
            self._dispatch(
                [Event(i, finish_reason=FinishReason.ERROR, error=text) for i in self._listeners]
            )

    def _loop(self) -> None:
        while True:
            self._empty_inbox()
            if self._is_closed and not (self._must_drain and self.engine.has_work):
                return
            if self.engine.has_work:
                self._step()

    def _empty_inbox(self) -> None:
        """Do what was asked for; wait for something when there is nothing else to do."""
        while True:
            has_leisure = not (self.engine.has_work or self._is_closed)
            if has_leisure and self._inbox.empty():
                self._tidy()
            try:
                action = self._inbox.get(block=has_leisure)
            except queue.Empty:
                return
            action()

    def _tidy(self) -> None:
        """Give memory back that many requests of all sizes left in pieces: what is free between what is not
        would only grow for hours."""
        if time.monotonic() > self._tidied + TIDY_EVERY:
            trim_heap()
            self._tidied = time.monotonic()

    def _step(self) -> None:
        try:
            events = self.engine.step()
        except Exception as error:  # reported to everybody it concerns
            log.exception("a step failed")
            text = f"the engine failed: {type(error).__name__}: {error}"
            events = self.engine.end_all(FinishReason.ERROR, text)
        self._dispatch(events)

    def _dispatch(self, events: list[Event]) -> None:
        for event in events:
            listener = self._listeners.get(event.request_id)
            if event.finish_reason:
                self._listeners.pop(event.request_id, None)
            if listener:
                self._tell(listener, event)

    def _tell(self, listener: OnEvent, event: Event) -> None:
        try:
            listener(event)
        except Exception:  # a listener's fault is not the engine's, nor that of the other requests
            log.exception("the listener of request %d failed", event.request_id)
            self._listeners.pop(event.request_id, None)
            self.cancel(event.request_id)
