"""How long a user waits for the first token after the command, with the file in the page cache.

    python benchmarks/startup.py smollm2-135m qwen2.5-coder-1.5b --save

Each round starts `plait run MODEL PROMPT -n 1` anew, the models in turns, and takes the time from the start of the process
to the first byte of the answer, and to the process's end. A first round, which is not counted, reads the files.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from peers import machine, steal_ticks

HERE = Path(__file__).resolve().parent
GOALS = {"smollm2-135m": 1.0, "qwen2.5-coder-1.5b": 3.0}
"""Seconds to the first token."""
PATIENCE = 120
"""Seconds after which a process is ended."""


def start(model: str, prompt: str) -> tuple[float, float]:
    """Seconds to (the first byte of the answer, the end). Raises RuntimeError when there is no answer."""
    command = [sys.executable, "-m", "plait", "run", model, prompt, "-n", "1", "--offline"]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        clock = threading.Timer(PATIENCE, process.kill)
        clock.start()
        byte = process.stdout.read(1)
        first = time.perf_counter() - began
        _, errors = process.communicate()
        clock.cancel()
    if process.returncode or not byte:
        raise RuntimeError(errors.decode().strip() or "no answer")
    return first, time.perf_counter() - began


def measure(models: list[str], prompt: str, rounds: int) -> dict[str, Any]:
    samples: dict[str, list[tuple[float, float]]] = {model: [] for model in models}
    for number in range(rounds + 1):
        for model in models:
            found = start(model, prompt)
            if number:
                samples[model].append(found)
    return {
        model: {
            "first_token": round(statistics.median(first for first, _ in pairs), 3),
            "end": round(statistics.median(end for _, end in pairs), 3),
            "goal": GOALS.get(model),
            "samples": [[round(first, 3), round(end, 3)] for first, end in pairs],
        }
        for model, pairs in samples.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--prompt", default="The capital of France is")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--save", action="store_true", help="write results/startup.json")
    args = parser.parse_args()
    steal = steal_ticks()
    record = {
        "unit": "seconds, medians, from the start of the process",
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "load_average": os.getloadavg()[0],
        "rounds": args.rounds,
        "models": measure(args.models, args.prompt, args.rounds),
    }
    record["steal_ticks"] = steal_ticks() - steal
    for model, row in record["models"].items():
        print(
            f"{model}: first token {row['first_token']} s, end {row['end']} s, goal {row['goal']} s"
        )
    if args.save:
        (HERE / "results" / "startup.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
