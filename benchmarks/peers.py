"""Plait beside its peers on the same file: interleaved rounds, medians, ratios, JSON and a table.

    python benchmarks/peers.py smollm2-135m qwen2.5-coder-0.5b --rounds 7

Each engine is one child process that has loaded the model and waits for orders on its standard input, so
that rounds can alternate (A B A B ...) without loading again; all but one sleep at any time. A peer lives
in a virtual environment of its own below the cache folder (built on first use; llama-cpp-python compiles for
some minutes). Every prompt is new random token ids: no cache hits.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import venv
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PEERS = {"llama.cpp": "llama-cpp-python==0.3.36"}
WORKERS = {
    "plait": ("plait_worker.py", None, {}),
    "llama.cpp": ("llama_worker.py", "llama.cpp", {"flash": False}),
    "llama.cpp-fa": ("llama_worker.py", "llama.cpp", {"flash": True}),
}


def peer_python(peer: str | None, home: Path) -> str:
    """The interpreter of a peer's environment, which is made when it is not there."""
    if peer is None:
        return sys.executable
    folder = home / peer
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"building {PEERS[peer]} in {folder}", file=sys.stderr)
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", PEERS[peer]], check=True)
    return str(python)


class Engine:
    """A child process that answers one JSON line with another."""

    def __init__(self, name: str, model: str, threads: int, context: int, home: Path) -> None:
        script, peer, options = WORKERS[name]
        setting = {"model": model, "threads": threads, "context": context, **options}
        command = [peer_python(peer, home), str(HERE / "workers" / script), json.dumps(setting)]
        self.name = name
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.about = self._read()

    def ask(self, **order: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self._read()

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} stopped with code {self.process.wait()}")
        return dict(json.loads(line))


def steal_ticks() -> int:
    return int(Path("/proc/stat").read_text().split("\n", 1)[0].split()[8])


def machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "?")
    return {"processor": cpu, "cores": os.cpu_count(), "kernel": platform.release()}


def measure(args: argparse.Namespace, model: str) -> dict[str, Any]:
    """One model: every engine, `rounds` interleaved rounds of each workload."""
    from plait.weights.hub import resolve

    path = str(resolve(model))
    context = args.prompt + args.decode + 64
    engines = [Engine(name, path, args.threads, context, args.home) for name in args.engines]
    samples: dict[str, dict[str, list[float]]] = {
        e.name: {"prefill": [], "decode": []} for e in engines
    }
    steal = steal_ticks()
    load: list[float] = []
    for round_number in range(args.rounds + 1):
        for engine in engines:
            order = {"prompt": args.prompt, "decode": args.decode, "start": args.start}
            answer = engine.ask(seed=1000 * round_number + 7, **order)
            time.sleep(0.2)
            if round_number == 0:
                continue  # a warm-up of each
            samples[engine.name]["prefill"].append(args.prompt / answer["prefill_seconds"])
            samples[engine.name]["decode"].append(args.decode / answer["decode_seconds"])
            load.append(os.getloadavg()[0])
    memory = {e.name: e.ask(memory=True)["peak_rss"] for e in engines}
    about = {e.name: e.about for e in engines}
    for engine in engines:
        engine.close()
    return {
        "model": model,
        "file_bytes": os.path.getsize(path),
        "about": about,
        "peak_rss": memory,
        "load_average": statistics.median(load),
        "steal_ticks": steal_ticks() - steal,
        "samples": samples,
        "summary": summary(samples),
    }


def summary(samples: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    """Medians, and the median of the per-round ratios of Plait to each peer."""
    result: dict[str, Any] = {}
    for work in ("prefill", "decode"):
        ours = samples["plait"][work]
        row: dict[str, Any] = {n: round(statistics.median(s[work]), 1) for n, s in samples.items()}
        row["ratio"] = {
            name: round(statistics.median(a / b for a, b in zip(ours, s[work], strict=True)), 3)
            for name, s in samples.items()
            if name != "plait"
        }
        result[work] = row
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--engines", nargs="+", default=list(WORKERS), choices=list(WORKERS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompt", type=int, default=512, help="tokens of the prefill")
    parser.add_argument("--start", type=int, default=128, help="context where decoding starts")
    parser.add_argument("--decode", type=int, default=64, help="tokens decoded at batch 1")
    parser.add_argument("--home", type=Path, default=Path.home() / ".cache/plait/peers")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "peers.json")
    args = parser.parse_args()
    results = [measure(args, model) for model in args.models]
    record = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "threads": args.threads,
        "prompt": args.prompt,
        "start": args.start,
        "decode": args.decode,
        "rounds": args.rounds,
        "unit": "tokens per second, medians of interleaved rounds",
        "results": results,
    }
    args.out.write_text(json.dumps(record, indent=1) + "\n")
    for result in results:
        for work, row in result["summary"].items():
            print(f"{result['model']:22} {work:8}", json.dumps(row))


if __name__ == "__main__":
    main()
