"""Plait beside its peers on the same file: interleaved rounds, medians, ratios, JSON, a table and a plot.

    python benchmarks/peers.py smollm2-135m
    python benchmarks/peers.py smollm2-135m --workloads decode-8 shared-16 --engines plait llama.cpp-fa

Each engine is one child process that has loaded the model and filled its contexts, and waits for orders on
its standard input, so that rounds alternate (A B A B ...); all but one sleep at any time. A peer lives in a
virtual environment of its own below the cache folder, built on first use (llama-cpp-python compiles for some
minutes). Prompts are random token ids, the same for all; every prefill has a new one.

One file per model in benchmarks/results, written after every workload; a run replaces what it measured and
keeps the other workloads, and in a workload the engines that it did not try, with their ratios to what Plait did
beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engines import CACHES, LIMITS, WORKERS, Engine, NotAvailableError
from workloads import WORKLOADS, order

from plait.analysis import roofline
from plait.analysis.roofline import Roof
from plait.core.config import EngineConfig
from plait.weights import hub

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
    setting |= {"isa": args.isa, "kv": args.kv}
    engines: list[Engine] = []
    try:
        missing = start(engines, setting, args)
        return {"work": work, **_rounds(name, engines, missing, args)}
    finally:
        for engine in engines:
            engine.close()


def _rounds(
    name: str, engines: list[Engine], missing: dict[str, str], args: argparse.Namespace
) -> dict[str, Any]:
    """An engine that fails on the way is moved to `missing`; it stays in `engines`, to be closed."""
    steal, loads, began = steal_ticks(), [], time.monotonic()
    samples: dict[str, list[float]] = {engine.name: [] for engine in engines}
    memory: dict[str, int] = {}
    for number in range(args.rounds):
        for engine in [one for one in engines if one.name in samples]:
            time.sleep(PAUSE)
            try:
                answer = engine.round(seed=1000 * number + 7)
            except NotAvailableError as error:
                missing[engine.name] = f"not available: {error}"
                del samples[engine.name]
                continue
            samples[engine.name].append(WORKLOADS[name].tokens / answer["seconds"])
            memory[engine.name] = answer["peak_rss"]
        loads.append(os.getloadavg()[0])
        if number + 1 >= LEAST_ROUNDS and time.monotonic() - began > args.seconds:
            break
    paired = ratios(samples)
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "threads": args.threads,
        "isa": args.isa,
        "kv": args.kv,
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
            if engine.name in samples
        },
        "not_available": missing,
        "ratio": {name: round(statistics.median(all_), 3) for name, all_ in paired.items()},
        "ratios": paired,
    }


def start(
    engines: list[Engine], setting: dict[str, Any], args: argparse.Namespace
) -> dict[str, str]:
    """Add the engines that run here, ready; returns why the others do not."""
    missing = {}
    for name in args.engines:
        try:
            engines.append(Engine(name, setting, args.home, args.patience))
        except NotAvailableError as error:
            missing[name] = f"not available: {error}"
            print(f"{name}: {missing[name]}", file=sys.stderr)
    return missing


def ratios(samples: dict[str, list[float]]) -> dict[str, list[float]]:
    """Plait to each peer, round by round."""
    ours = samples.get("plait", [])
    return {
        name: [round(a / b, 3) for a, b in zip(ours, theirs, strict=True)]
        for name, theirs in samples.items()
        if name != "plait" and ours
    }


def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """A workload's record with the engines that only an earlier run had, and what was found of them then."""
    tried = {*new["engines"], *new["not_available"]}
    kept = {
        key: {name: value for name, value in old.get(key, {}).items() if name not in tried}
        for key in ("engines", "not_available", "ratio", "ratios")
    }
    return {**new, **{key: {**kept[key], **new[key]} for key in kept}}


def limit(work: dict[str, Any], roof: Roof) -> float:
    """Tokens per second that this machine allows at most: docs of plait.analysis.roofline."""
    batch, context = work["batch"], work["context"]
    if work["kind"] == "prefill":
        return context / roof.prefill(context)
    return batch / roof.decode(context, batch, shared=work["fill"] if work["shared"] else 0)


def row(name: str, record: dict[str, Any]) -> str:
    """One line of the table: tokens per second, how many times a peer's speed Plait has, and its limit."""
    cells = [f"{name:14}"]
    for engine, one in record["engines"].items():
        ratio = record["ratio"].get(engine)
        cells.append(f"{engine} {one['median']:.1f}" + (f" (x{ratio:.2f})" if ratio else ""))
    if "plait" in record["engines"]:
        share = record["engines"]["plait"]["median"] / record["limit"]
        cells.append(f"limit {record['limit']:.1f} ({share:.0%} reached)")
    return "  ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--workloads", nargs="+", default=list(WORKLOADS), choices=list(WORKLOADS))
    parser.add_argument("--engines", nargs="+", choices=list(WORKERS), help="all, if not given")
    parser.add_argument("--rounds", type=int, default=7, help="at most, of each workload")
    parser.add_argument("--seconds", type=float, default=20, help="after which 3 rounds are enough")
    parser.add_argument(
        "--patience", type=float, default=900, help="seconds for an engine's answer"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--isa",
        default="auto",
        choices=["auto", *LIMITS],
        help="keep those engines that can be kept to it to this instruction set",
    )
    parser.add_argument(
        "--kv",
        default="auto",
        choices=["auto", *CACHES],
        help="what K/V are kept in, by those engines that can be told; auto: as each does by itself",
    )
    parser.add_argument("--home", type=Path, default=Path.home() / ".cache/plait/peers")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    args = parser.parse_args()
    able = [name for name in LIMITS.get(args.isa, WORKERS) if name in CACHES.get(args.kv, WORKERS)]
    args.engines = args.engines or able
    if unable := [name for name in args.engines if name not in able]:
        told = f"--isa {args.isa} --kv {args.kv}"
        parser.error(f"{told} cannot be kept by {', '.join(unable)}, only by {', '.join(able)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # not before the engines have ended
    for model in args.models:
        run(model, args)


def run(model: str, args: argparse.Namespace) -> None:
    """Measure a model; what is done is on disk even if a later workload fails."""
    path = hub.resolve(model)
    limits, words = roofline.roof(
        path, EngineConfig(str(path), threads=args.threads, isa=args.isa, kv=args.kv)
    )
    print(words)
    args.results.mkdir(parents=True, exist_ok=True)
    out = args.results / f"peers-{model}.json"
    known = json.loads(out.read_text())["workloads"] if out.exists() else {}
    for name in args.workloads:
        new = measure(name, model, path, args)
        new |= {"limit": round(limit(new["work"], limits), 2), "peaks": asdict(limits.peaks)}
        known[name] = merged(known.get(name, {}), new)
        print(row(name, known[name]), flush=True)
        write(out, model, path.stat().st_size, known)


def write(out: Path, model: str, file_bytes: int, known: dict[str, Any]) -> None:
    """The whole table, in one piece."""
    record = {
        "model": model,
        "file_bytes": file_bytes,
        "unit": "tokens per second, medians of interleaved rounds; ratio: Plait to the peer",
        "workloads": {name: known[name] for name in WORKLOADS if name in known},
    }
    partial = out.with_suffix(".partial")
    partial.write_text(json.dumps(record, indent=1) + "\n")
    partial.replace(out)


if __name__ == "__main__":
    main()
