"""`plait serve` beside its peers under the same load: interleaved rounds, medians, ratios, JSON.

    python benchmarks/serve_peers.py smollm2-135m
    python benchmarks/serve_peers.py smollm2-135m --slots 8 --loads streams --rounds 5

Every server is one child process with the model loaded and as many slots; all but one are idle at any time. A
round is the same load (the same seed) for each of them in turn, from the generator of `plait bench serve`.
llama.cpp's server is built from the sources of the peer that benchmarks/peers.py uses, when none is installed.

One file per model in benchmarks/results, which a run replaces load by load.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engines import NotAvailableError
from peers import machine, steal_ticks
from servers import SERVERS, Server, Setting

from plait.analysis.load import Generator, first_model, summary
from plait.analysis.load_client import Address
from plait.analysis.workload import Load
from plait.weights import hub

HERE = Path(__file__).resolve().parent
PAUSE = 0.5
"""Seconds between two servers: the threads of the last one go to sleep."""
GOAL = (1.0, 0.1)
RATES = ("tokens_per_second", "requests_per_second")
TIMES = ("time_to_first_token", "time_per_output_token", "time_between_pieces")


def loads(slots: int, seed: int) -> dict[str, Load]:
    """Name -> load of one round."""
    return {
        "streams": Load(
            requests=2 * slots, concurrency=slots, prompt_words=128, tokens=64, seed=seed
        ),
        "poisson": Load(requests=3 * slots, rate=slots / 8, prompt_words=128, tokens=64, seed=seed),
        "prefix": Load(
            requests=2 * slots,
            concurrency=slots,
            prefix_words=512,
            prompt_words=32,
            tokens=32,
            seed=seed,
        ),
    }


def measure(name: str, servers: list[Server], args: argparse.Namespace) -> dict[str, Any]:
    """One load on every server, args.rounds times."""
    found: dict[str, list[dict[str, Any]]] = {server.name: [] for server in servers}
    steal = steal_ticks()
    for number in range(args.rounds):
        load = loads(args.slots, 1000 * number + 7)[name]
        for server in servers:
            time.sleep(PAUSE)
            address = Address(server.url)
            model = first_model(address, args.patience)
            samples = Generator(address, model, load, args.patience).run()
            found[server.name].append(summary(samples, load, GOAL))
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "threads": args.threads,
        "slots": args.slots,
        "steal_ticks": steal_ticks() - steal,
        "load": asdict(loads(args.slots, 7)[name]),
        "servers": {name: medians(rounds) for name, rounds in found.items()},
        "ratio": ratios(found),
    }


def medians(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Of every number over the rounds; errors are added up."""
    errors: dict[str, int] = {}
    for one in rounds:
        for kind, error in one["errors"].items():
            errors[kind] = errors.get(kind, 0) + error["count"]
    times = {
        what: {
            share: statistics.median(one[what][share] for one in rounds if one[what])
            for share in next((one[what] for one in rounds if one[what]), {})
        }
        for what in TIMES
    }
    rates = {rate: statistics.median(one[rate] for one in rounds) for rate in RATES}
    samples = [round(one["tokens_per_second"], 2) for one in rounds]
    return {**rates, **times, "errors": errors, "samples": samples}


def ratios(found: dict[str, list[dict[str, Any]]]) -> dict[str, float]:
    """Tokens per second of Plait to each peer's: the median over the rounds."""
    ours = found.get("plait", [])
    return {
        name: round(
            statistics.median(
                a["tokens_per_second"] / b["tokens_per_second"] if b["tokens_per_second"] else 0.0
                for a, b in zip(ours, theirs, strict=True)
            ),
            3,
        )
        for name, theirs in found.items()
        if name != "plait" and ours
    }


def row(name: str, record: dict[str, Any]) -> str:
    cells = [f"{name:8}"]
    for server, one in record["servers"].items():
        ratio = record["ratio"].get(server)
        first, each = one["time_to_first_token"], one["time_per_output_token"]
        cell = f"{server} {one['tokens_per_second']:.1f} tok/s" + (
            f" (x{ratio:.2f})" if ratio else ""
        )
        if first and each:
            cell += f", TTFT {first['p50']:.3f} s, TPOT p50 {1e3 * each['p50']:.1f} p99 {1e3 * each['p99']:.1f} ms"
        cells.append(cell + (f", errors {one['errors']}" if one["errors"] else ""))
    return "\n  ".join(cells)


def run(model: str, args: argparse.Namespace) -> None:
    """Measure a model; what is done is on disk even if a later load fails."""
    setting = Setting(model, hub.resolve(model), args.slots, args.context, args.threads, args.home)
    out = args.results / f"serve-{model}.json"
    record = json.loads(out.read_text()) if out.exists() else {"model": model, "loads": {}}
    servers: list[Server] = []
    missing: dict[str, str] = {}
    try:
        for name in args.servers:
            try:
                servers.append(Server(name, setting, args.patience))
            except NotAvailableError as error:
                missing[name] = f"not available: {error}"
                print(f"{name}: {missing[name]}", file=sys.stderr)
        for name in args.loads if servers else ():
            record["loads"][name] = {**measure(name, servers, args), "not_available": missing}
            print(row(name, record["loads"][name]), flush=True)
            partial = out.with_suffix(".partial")
            partial.write_text(json.dumps(record, indent=1) + "\n")
            partial.replace(out)
    finally:
        for server in servers:
            server.close()


def main() -> None:
    names = list(loads(1, 0))
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--loads", nargs="+", default=names, choices=names)
    parser.add_argument("--servers", nargs="+", default=list(SERVERS), choices=list(SERVERS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slots", type=int, default=32)
    parser.add_argument("--context", type=int, default=1024, help="tokens of each slot")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--patience", type=float, default=300, help="seconds for an answer")
    parser.add_argument("--home", type=Path, default=Path.home() / ".cache/plait/peers")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # not before the servers have ended
    for model in args.models:
        run(model, args)


if __name__ == "__main__":
    main()
