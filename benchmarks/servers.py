"""Servers with OpenAI's API as child processes, on one model file, with as many slots each."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from engines import HERE, PEERS, NotAvailableError, peer_python

TARGET = "llama-server"
WORKERS_FOLDER = HERE / "workers"


@dataclass(frozen=True)
class Setting:
    """name: of the model, for Plait: what `plait bench step` measured is kept under it. model: its file, for the
    others. context: tokens of each of the slots. home: where the peers live.
    """

    name: str
    model: Path
    slots: int
    context: int
    threads: int
    home: Path


def plait(setting: Setting, port: int) -> list[str]:
    return [
        *(sys.executable, "-m", "plait", "serve", setting.name),
        *("--port", str(port), "--threads", str(setting.threads)),
        *("--ctx", str(setting.context), "--max-num-seqs", str(setting.slots)),
    ]


def llama(setting: Setting, port: int) -> list[str]:
    """Independent streams of the cache, continuous batching, flash attention where it is faster."""
    return [
        *(llama_server(setting.home), "--model", str(setting.model), "--port", str(port)),
        *("--threads", str(setting.threads), "--parallel", str(setting.slots)),
        *("--ctx-size", str(setting.slots * setting.context), "--no-webui", "--log-disable"),
    ]


def vllm(setting: Setting, port: int) -> list[str]:
    """On the file's weights dequantised to float32, as in benchmarks/peers.py."""
    python = peer_python("vllm", setting.home)
    folder = run([python, str(WORKERS_FOLDER / "vllm_checkpoint.py"), str(setting.model)])
    return [
        *("env", "VLLM_CPU_KVCACHE_SPACE=4", "VLLM_LOGGING_LEVEL=ERROR"),
        *(python, "-m", "vllm.entrypoints.openai.api_server", "--model", folder.split("\n")[-1]),
        *("--host", "127.0.0.1", "--port", str(port), "--dtype", "float32"),
        *("--max-model-len", str(setting.context), "--max-num-seqs", str(setting.slots)),
    ]


SERVERS: dict[str, Callable[[Setting, int], list[str]]] = {
    "plait": plait,
    "llama.cpp": llama,
    "vllm": vllm,
}
"""Name -> the command that serves on a port."""


def llama_server(home: Path) -> str:
    """Path of llama.cpp's server: an installed one, or one built of the peer's own sources on first use."""
    if installed := shutil.which(TARGET):
        return installed
    folder = home / TARGET
    found = folder / "build" / "bin" / TARGET
    if not found.exists():
        print(f"building {TARGET} in {folder}", file=sys.stderr)
        build(folder)
    return str(found)


def build(folder: Path) -> None:
    """Raises NotAvailableError with the last line of what failed."""
    folder.mkdir(parents=True, exist_ok=True)
    fetch = ["download", "-q", "--no-deps", "--no-build-isolation", "--no-binary", ":all:"]
    run([sys.executable, "-m", "pip", *fetch, "--dest", str(folder), *PEERS["llama.cpp"]])
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    source = next(folder.glob("*/vendor/llama.cpp"))
    options = ["-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=OFF", "-DLLAMA_OPENSSL=OFF"]
    run(["cmake", "-S", str(source), "-B", str(folder / "build"), *options])
    run(["cmake", "--build", str(folder / "build"), "--target", TARGET, "--parallel", "2"])


def run(command: list[str]) -> str:
    """What it printed. Raises NotAvailableError with the last line of its complaint."""
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise NotAvailableError((result.stderr.strip().splitlines() or ["no reason given"])[-1])
    return result.stdout.strip()


class Server:
    """A server that answers /health when it is made."""

    def __init__(
        self, name: str, setting: Setting, patience: float, options: Sequence[str] = ()
    ) -> None:
        """patience: seconds until it must answer. options: more of its command line. Raises NotAvailableError."""
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self.name, self.url = name, f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen(
            [*SERVERS[name](setting, port), *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": str(setting.threads)},
            start_new_session=True,  # so that its own children end with it
        )
        try:
            self._wait(patience)
        except BaseException:  # a session of its own does not hear the terminal
            self.close()
            raise

    def close(self) -> None:
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=20)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _wait(self, patience: float) -> None:
        until = time.monotonic() + patience
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise NotAvailableError(f"{self.name} stopped with code {self.process.returncode}")
            with suppress(OSError), urllib.request.urlopen(f"{self.url}/health", timeout=5):
                return
            time.sleep(0.1)
        raise NotAvailableError(f"{self.name} gave no answer within {patience:.0f} s")
