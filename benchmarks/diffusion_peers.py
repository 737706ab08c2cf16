"""Plait beside masked diffusion in PyTorch: LLaDA's own sampler, and Fast-dLLM with prefix and dual cache.

    python benchmarks/diffusion_peers.py
    python benchmarks/diffusion_peers.py --methods dual --engines plait-bf16 torch-f32

The same prompts on one random checkpoint of LLaDA's shape (diffusion_checkpoint.py), in interleaved rounds. With
random weights confidence means nothing, so both sides decide in a fixed number of steps per block; whether every
round fed as many positions, forward by forward, is checked, and whether the engines that compute with the same
weights in float32 came to the same tokens.

Writes benchmarks/results/diffusion-llada.json after every method; a run replaces the methods that it measured.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from diffusion_checkpoint import checkpoint, parameters
from engines import Engine, NotAvailableError, Workers
from peers import HERE, PAUSE, machine, steal_ticks

WORK = {"prompt": 128, "answer": 64, "block": 32, "steps": 8}
"""Tokens of the prompt, of the answer, of a block; steps that decide a block."""
METHODS = {
    "none": "LLaDA's sampler: the whole canvas in every step",
    "prefix": "Fast-dLLM, prefix cache: what lies from the block's start on",
    "dual": "Fast-dLLM, dual cache: the block alone",
}
"""What a step feeds when it does not begin a block."""
ENGINES: Workers = {
    "plait-bf16": ("canvas_worker.py", None, {"weights": "folder", "activations": "f32"}),
    "plait-q4_0": ("canvas_worker.py", None, {"weights": "file", "activations": "int8"}),
    "torch-f32": ("llada_worker.py", "torch", {"dtype": "float32", "compile": False}),
    "torch-bf16": ("llada_worker.py", "torch", {"dtype": "bfloat16", "compile": False}),
    "torch-compile": ("llada_worker.py", "torch", {"dtype": "float32", "compile": True}),
}
EXACT = ("plait-bf16", "torch-f32")
"""Compute with the same weights in float32: plait-bf16 reads them as they are stored."""
LEAST_ROUNDS = 3

Answers = dict[str, list[dict[str, Any]]]


def expected(method: str) -> list[int]:
    """Positions of every forward of a round."""
    length, fed = WORK["prompt"] + WORK["answer"], []
    for start in range(WORK["prompt"], length, WORK["block"]):
        rest = {"none": length, "prefix": length - start, "dual": WORK["block"]}[method]
        fed += [length] + [rest] * (WORK["steps"] - 1)
    return fed


def check(method: str, name: str, answer: dict[str, Any]) -> None:
    """Raise RuntimeError for a round that is not the one which was asked for."""
    fed, count = expected(method), len(answer["tokens"])
    if answer["fed"] != fed or count != WORK["answer"]:
        raise RuntimeError(
            f"{name}, {method}: {count} tokens, fed {answer['fed']} instead of {fed}"
        )


def measure(method: str, setting: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """One method with every engine: at most args.rounds rounds, fewer when args.seconds are over."""
    engines: list[Engine] = []
    missing: dict[str, str] = {}
    try:
        for name in args.engines:
            try:
                asked = {**setting, "reuse": method}
                engines.append(Engine(name, asked, args.home, args.patience, ENGINES))
            except NotAvailableError as error:
                missing[name] = f"not available: {error}"
        return {**_rounds(method, engines, args), "not_available": missing}
    finally:
        for engine in engines:
            engine.close()


def _rounds(method: str, engines: list[Engine], args: argparse.Namespace) -> dict[str, Any]:
    answers: Answers = {engine.name: [] for engine in engines}
    steal, loads, began = steal_ticks(), [], time.monotonic()
    for number in range(args.rounds):
        for engine in engines:
            time.sleep(PAUSE)
            answers[engine.name].append(engine.round(seed=1000 * number + 7))
            check(method, engine.name, answers[engine.name][-1])
        loads.append(os.getloadavg()[0])
        if number + 1 >= LEAST_ROUNDS and time.monotonic() - began > args.seconds:
            break
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "threads": args.threads,
        "load_average": statistics.median(loads),
        "steal_ticks": steal_ticks() - steal,
        **counts(method),
        "engines": {engine.name: _engine(engine, answers[engine.name]) for engine in engines},
        "same_tokens": same_tokens(answers),
        **compared(answers),
    }


def _engine(engine: Engine, answers: list[dict[str, Any]]) -> dict[str, Any]:
    samples = [WORK["answer"] / answer["seconds"] for answer in answers]
    return {
        "median": round(statistics.median(samples), 3),
        "samples": [round(sample, 3) for sample in samples],
        "peak_rss": answers[-1]["peak_rss"],
        "about": engine.about,
    }


def counts(method: str) -> dict[str, Any]:
    """The same for everybody: forwards, positions, and how many tokens come of one of each."""
    fed = expected(method)
    return {
        "forwards": len(fed),
        "positions": sum(fed),
        "tokens_per_forward": WORK["answer"] / len(fed),
        "position_efficiency": round(WORK["answer"] / sum(fed), 4),
    }


def same_tokens(answers: Answers) -> str | None:
    """Of the engines that compute the same: how many tokens of all rounds agree. None: only one was there."""
    pair = [answers[name] for name in EXACT if name in answers]
    if len(pair) < len(EXACT):
        return None
    pairs = [
        (a, b)
        for ours, theirs in zip(*pair, strict=True)
        for a, b in zip(ours["tokens"], theirs["tokens"], strict=True)
    ]
    return f"{sum(a == b for a, b in pairs)} of {len(pairs)}"


def compared(answers: Answers) -> dict[str, Any]:
    """How many times the speed of the fastest peer Plait has, round by round, and the medians."""
    peers = {name: _seconds(rounds) for name, rounds in answers.items() if "torch" in name}
    if not peers:
        return {"peer": None, "ratio": {}, "ratios": {}}
    best = min(peers, key=lambda name: statistics.median(peers[name]))
    ratios = {
        name: [round(a / b, 3) for a, b in zip(peers[best], _seconds(rounds), strict=True)]
        for name, rounds in answers.items()
        if "plait" in name
    }
    medians = {name: round(statistics.median(each), 3) for name, each in ratios.items()}
    return {"peer": best, "ratio": medians, "ratios": ratios}


def _seconds(rounds: list[dict[str, Any]]) -> list[float]:
    return [answer["seconds"] for answer in rounds]


def row(method: str, record: dict[str, Any]) -> str:
    """A line of the table: tokens per second, and how many times the fastest peer's speed."""
    cells = [f"{method:7}"]
    for name, engine in record["engines"].items():
        ratio = record["ratio"].get(name)
        cells.append(f"{name} {engine['median']:.2f}" + (f" (x{ratio:.2f})" if ratio else ""))
    cells.append(f"{record['forwards']} forwards, {record['positions']} positions")
    cells.append(f"TPF {record['tokens_per_forward']:g}")
    cells.append(f"position efficiency {record['position_efficiency']:.3f}")
    cells.append(f"same tokens: {record['same_tokens']}")
    return "  ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--engines", nargs="+", default=list(ENGINES)[:4], choices=list(ENGINES))
    parser.add_argument("--rounds", type=int, default=5, help="at most, of each method")
    parser.add_argument("--seconds", type=float, default=60, help="after which 3 rounds are enough")
    parser.add_argument(
        "--patience", type=float, default=900, help="seconds for an engine's answer"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--home", type=Path, default=Path.home() / ".cache/plait/peers")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # not before the engines have ended
    folder, file = checkpoint(args.home)
    run({**WORK, "threads": args.threads, "folder": str(folder), "file": str(file)}, args)


def run(setting: dict[str, Any], args: argparse.Namespace) -> None:
    """Measure; what is done is on disk even if a later method fails."""
    out = args.results / "diffusion-llada.json"
    known = json.loads(out.read_text())["methods"] if out.exists() else {}
    for method in args.methods:
        known[method] = measure(method, setting, args)
        print(row(method, known[method]), flush=True)
        record = {
            "model": "random weights of LLaDA's shape",
            "parameters": parameters(),
            "work": WORK,
            "unit": "tokens per second, medians of interleaved rounds; ratio: Plait to the fastest peer",
            "methods": {name: known[name] for name in METHODS if name in known},
        }
        partial = out.with_suffix(".partial")
        partial.write_text(json.dumps(record, indent=1) + "\n")
        partial.replace(out)


if __name__ == "__main__":
    main()
