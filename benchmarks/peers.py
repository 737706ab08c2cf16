"""Plait beside its peers on the same file: interleaved rounds, medians, ratios, JSON, a table and a plot.

    python benchmarks/peers.py smollm2-135m
    python benchmarks/peers.py smollm2-135m --workloads decode-8 shared-16 --engines plait llama.cpp-fa

Each engine is one child process that has loaded the model and filled its contexts, and waits for orders on
its standard input, so that rounds alternate (A B A B ...); all but one sleep at any time. A peer lives in a
virtual environment of its own below the cache folder, built on first use (llama-cpp-python compiles for some
minutes). Prompts are random token ids, the same for all; every prefill has a new one.

One file per model in benchmarks/results; a run replaces the workloads that it measured and keeps the others.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from engines import WORKERS, Engine, NotAvailableError
from workloads import WORKLOADS, order

HERE = Path(__file__).resolve().parent
LEAST_ROUNDS = 3
PAUSE = 0.2
"""Seconds between two engines: the threads of the last one go to sleep."""


def steal_ticks() -> int:
    """Hundredths of a second that the host took from this machine, over all processors."""
    return int(Path("/proc/stat").read_text().split("\n", 1)[0].split()[8])


def machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "?")
    return {"processor": cpu, "cores": os.cpu_count(), "kernel": platform.release()}


def measure(name: str, model: str, path: Path, args: argparse.Namespace) -> dict[str, Any]:
    """One workload with every engine: at most args.rounds rounds, fewer when args.seconds are over."""
    work = order(name, model, args.rounds)
    setting = {"model": str(path), "threads": args.threads, "work": work}
    engines, missing = started(args.engines, setting, args.home)
    steal, loads, began = steal_ticks(), [], time.monotonic()
    samples: dict[str, list[float]] = {engine.name: [] for engine in engines}
    memory: dict[str, int] = {}
    for number in range(args.rounds):
        for engine in list(engines):
            time.sleep(PAUSE)
            try:
                answer = engine.round(seed=1000 * number + 7)
            except NotAvailableError as error:
                missing[engine.name] = f"not available: {error}"
                engines.remove(engine)
                del samples[engine.name]
                continue
            samples[engine.name].append(WORKLOADS[name].tokens / answer["seconds"])
            memory[engine.name] = answer["peak_rss"]
        loads.append(os.getloadavg()[0])
        if number + 1 >= LEAST_ROUNDS and time.monotonic() - began > args.seconds:
            break
    for engine in engines:
        engine.close()
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "threads": args.threads,
        "work": work,
        "load_average": statistics.median(loads),
        "steal_ticks": steal_ticks() - steal,
        "engines": {
            engine.name: {
                "median": round(statistics.median(samples[engine.name]), 2),
                "samples": [round(sample, 2) for sample in samples[engine.name]],
                "peak_rss": memory[engine.name],
                "about": engine.about,
            }
            for engine in engines
        },
        "not_available": missing,
        "ratio": ratios(samples),
    }


def started(
    names: list[str], setting: dict[str, Any], home: Path
) -> tuple[list[Engine], dict[str, str]]:
    """The engines that run here, ready, and why the others do not."""
    engines, missing = [], {}
    for name in names:
        try:
            engines.append(Engine(name, setting, home))
        except NotAvailableError as error:
            missing[name] = f"not available: {error}"
            print(f"{name}: {missing[name]}", file=sys.stderr)
    return engines, missing


def ratios(samples: dict[str, list[float]]) -> dict[str, float]:
    """Median of the per-round ratios of Plait to each peer."""
    ours = samples.get("plait", [])
    return {
        name: round(statistics.median(a / b for a, b in zip(ours, theirs, strict=True)), 3)
        for name, theirs in samples.items()
        if name != "plait" and ours
    }


def row(name: str, record: dict[str, Any]) -> str:
    """One line of the table: tokens per second, and how many times a peer's speed Plait has."""
    cells = [f"{name:14}"]
    for engine, one in record["engines"].items():
        ratio = record["ratio"].get(engine)
        cells.append(f"{engine} {one['median']:.1f}" + (f" (x{ratio:.2f})" if ratio else ""))
    return "  ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--workloads", nargs="+", default=list(WORKLOADS), choices=list(WORKLOADS))
    parser.add_argument("--engines", nargs="+", default=list(WORKERS), choices=list(WORKERS))
    parser.add_argument("--rounds", type=int, default=7, help="at most, of each workload")
    parser.add_argument("--seconds", type=float, default=20, help="after which 3 rounds are enough")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--home", type=Path, default=Path.home() / ".cache/plait/peers")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    args = parser.parse_args()
    for model in args.models:
        run(model, args)


def run(model: str, args: argparse.Namespace) -> None:
    """Measure a model; what is done is on disk even if a later workload fails."""
    from plait.weights.hub import resolve

    path = resolve(model)
    out = args.results / f"peers-{model}.json"
    known = json.loads(out.read_text())["workloads"] if out.exists() else {}
    for name in args.workloads:
        known[name] = measure(name, model, path, args)
        print(row(name, known[name]), flush=True)
        record = {
            "model": model,
            "file_bytes": path.stat().st_size,
            "unit": "tokens per second, medians of interleaved rounds; ratio: Plait to the peer",
            "workloads": {name: known[name] for name in WORKLOADS if name in known},
        }
        out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
