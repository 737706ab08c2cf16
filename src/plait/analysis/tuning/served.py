"""A server as a child process on a free port of loopback, and one load on it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from types import TracebackType

from plait.analysis.load import Generator
from plait.analysis.load_client import Address, BrokenAnswerError, Connection
from plait.analysis.tuning.objective import Measure, measured
from plait.analysis.workload import Load

START_SECONDS = 120.0
LOAD_SECONDS = 600.0
"""Seconds until a server has to be ready, and that one request may take."""
LISTENS = re.compile(r"http://127\.0\.0\.1:(\d+)")
WARM_UP_SEED = 1 << 40
"""Of the requests before a load: texts that do not come in it."""


class FailedError(Exception):
    """A server that did not start or a load that took too long; in words."""


class Served:
    """`with Served(command) as server`: ready when it begins, gone when it ends.

    command: of a server that says on stderr where it listens (on port 0). Raises FailedError.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - as long as the process
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env=_environment(),
            start_new_session=True,  # Ctrl-C is for us; we end the server then
        )

    def __enter__(self) -> Served:
        try:
            self._wait()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def measure(self, model: str, load: Load, most_seconds: float) -> Measure:
        """Warm up, then answer a load. Raises FailedError when that takes more than most_seconds."""
        before = os.getloadavg()[0]
        warm_up = replace(
            load, requests=2, rate=0.0, concurrency=1, turns=1, tokens=8, seed=WARM_UP_SEED
        )
        Generator(self.address, model, warm_up, LOAD_SECONDS).run()
        generator = Generator(self.address, model, load, LOAD_SECONDS)
        try:
            asyncio.run(asyncio.wait_for(generator.drive(), most_seconds))
        except TimeoutError:
            raise FailedError(f"the load took more than {most_seconds:.0f} s") from None
        return measured(load.seed, generator.samples, before)

    def _wait(self) -> None:
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            if self._process.poll() is not None:
                lines = self._said().strip().splitlines()
                raise FailedError(lines[-1] if lines else f"exit code {self._process.returncode}")
            if found := LISTENS.search(self._said()):
                self.address = Address(found[0])
                if asyncio.run(_is_ready(self.address)):
                    return
            time.sleep(0.05)
        raise FailedError(f"the server was not ready after {START_SECONDS:.0f} s")

    def _said(self) -> str:
        self._log.seek(0)
        return self._log.read()

    def _end(self) -> None:
        self._process.send_signal(signal.SIGINT)
        try:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._log.close()


async def _is_ready(address: Address) -> bool:
    with suppress(OSError, EOFError, BrokenAnswerError, TimeoutError):
        async with asyncio.timeout(5), Connection(address, "GET", "/health") as answer:
            return answer.status == 200
    return False


def _environment() -> dict[str, str]:
    """Ours without the settings of a server: what counts is on its command line."""
    kept = {"PLAIT_HOME"}
    return {
        name: value
        for name, value in os.environ.items()
        if name in kept or not name.startswith("PLAIT_")
    }
