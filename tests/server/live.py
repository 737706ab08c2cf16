"""`plait serve` as people run it: a process of its own on a port of loopback."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

MODEL = "smollm2-135m"
START = 120.0
"""Seconds that a server may take until it says where it is."""
LONGEST = 60.0
"""Seconds that one answer may take."""


class LiveServer:
    """Running when it is made. module: what is run instead of plait, with the same arguments. port: 0 is any."""

    def __init__(self, *options: str, module: str = "plait", port: int = 0) -> None:
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - as long as the process
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, "serve", MODEL, "--port", str(port), *options],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        try:
            self.port = self._port()
            self._wait()
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def output(self) -> str:
        self.log.seek(0)
        return self.log.read()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=LONGEST)

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """(status, whole body)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LONGEST)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def complete(self, **fields: Any) -> tuple[int, bytes]:
        """One short completion."""
        body = {"model": MODEL, "prompt": "Hello", "max_tokens": 2, "temperature": 0, **fields}
        return self.ask("POST", "/v1/completions", json.dumps(body).encode())

    def stream(self, **fields: Any) -> http.client.HTTPResponse:
        """A stream whose first bytes have come."""
        body = {"model": MODEL, "prompt": "Once", "ignore_eos": True, "stream": True, **fields}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LONGEST)
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/v1/completions", json.dumps(body), headers)
        answer = connection.getresponse()
        assert answer.status == 200
        assert answer.readline().startswith(b"data: {")
        return answer

    def gauges(self) -> dict[str, float]:
        """Metrics without labels by name."""
        lines = self.ask("GET", "/metrics")[1].decode().splitlines()
        pairs = (line.split(" ") for line in lines if not line.startswith("#") and "{" not in line)
        return {name: float(value) for name, value in pairs}

    def resident(self) -> int:
        """Bytes of memory that the process has."""
        with open(f"/proc/{self.process.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def kill(self) -> None:
        """End it as the kernel does when memory is gone."""
        self.process.kill()
        self.process.wait()

    def close(self) -> int:
        """End it as an operator does; returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
        finally:
            self.log.close()

    def _port(self) -> int:
        until = time.monotonic() + START
        while time.monotonic() < until and self.process.poll() is None:
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", self.output()):
                return int(found[1])
            time.sleep(0.1)
        raise AssertionError(f"the server did not start:\n{self.output()}")

    def _wait(self) -> None:
        """Until the model is loaded."""
        until = time.monotonic() + START
        while time.monotonic() < until:
            if self.ask("GET", "/health")[0] == 200:
                return
            time.sleep(0.1)
        raise AssertionError(f"the server never was ready:\n{self.output()}")


class Watch:
    """Asks /health again and again while a test does its worst; at the end every answer was 200."""

    def __init__(self, server: LiveServer) -> None:
        self.server = server
        self.answers: list[int | str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(2 * LONGEST)
        assert not self._thread.is_alive()
        assert set(self.answers) == {200}

    def _run(self) -> None:
        while True:
            try:
                self.answers.append(self.server.ask("GET", "/health")[0])
            except OSError as error:
                self.answers.append(repr(error))
            if self._stop.wait(0.05):
                return
