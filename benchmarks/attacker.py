"""What an attacker on one API key costs the others, on a real `plait serve`.

    plait bench step smollm2-135m             # once: without it the server does not know what a step costs
    python benchmarks/attacker.py smollm2-135m --save

Three keys, the victims, have `--clients` clients each, which send a short request as soon as they have the answer
to the last. What a fourth key does is one of four things, in interleaved rounds:

    alone    nothing
    fair     what the victims do
    attack   `--flood` requests at once, as long as a request can be, and a new one for each that ends
    swarm    as many with short prompts and long answers

**Fair share.** With k active keys each is entitled to 1/k of the server. A victim has its fair share when the
fourth key takes as much as each victim does and no more; so the time per output token (TPOT) under attack is
compared with that of `fair`, as in tests/iteration/test_fairness.py. The goal is p99 at most `GOAL` times as long.

Requests that began in the first `--warm` seconds of a turn do not count: the attacker has to fill the house first.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from peers import machine, steal_ticks
from servers import Server, Setting

from plait.analysis.load import Generator, Sample, first_model, percentiles
from plait.analysis.load_client import Address
from plait.analysis.workload import MOST_REQUESTS, Load
from plait.core.config import EngineConfig
from plait.engine.pace import measured_pace

HERE = Path(__file__).resolve().parent
VICTIMS = ("victim-1", "victim-2", "victim-3")
FOURTH = "fourth"
TURNS = ("alone", "fair", "attack", "swarm")
ATTACKS = TURNS[2:]
GOAL = 1.2
PAUSE = 1.0
"""Seconds between two turns."""
WORDS = 0.6
"""Of the longest canvas, the words of an attacker's prompt: most are a token each, and some are more."""
REQUESTS = 5000
"""More than any key sends in a turn."""


def victim(args: argparse.Namespace, seed: int) -> Load:
    return Load(
        requests=REQUESTS,
        seconds=args.seconds,
        concurrency=args.clients,
        prompt_words=70,
        spread=0.15,
        tokens=40,
        seed=seed,
    )


def attacker(args: argparse.Namespace, seed: int) -> Load:
    """Prompt and answer together are as long as the context allows, nearly."""
    words = int(WORDS * args.context)
    return Load(
        requests=min(MOST_REQUESTS, 20 * args.flood),
        seconds=args.seconds,
        concurrency=args.flood,
        prompt_words=words,
        tokens=args.context // 4,
        seed=seed,
    )


def swarm(args: argparse.Namespace, seed: int) -> Load:
    """Short prompts, and answers nearly as long as the context allows."""
    return Load(
        requests=min(MOST_REQUESTS, 20 * args.flood),
        seconds=args.seconds,
        concurrency=args.flood,
        prompt_words=20,
        tokens=args.context - 100,
        seed=seed,
    )


LOADS = {"fair": victim, "attack": attacker, "swarm": swarm}


def turn(name: str, url: str, model: str, args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """One of TURNS: samples of the victims by key, and of the fourth."""

    def generator(key: str, load: Load) -> Generator:
        return Generator(Address(url, key), model, load, args.patience)

    victims = [generator(key, victim(args, seed + i)) for i, key in enumerate(VICTIMS)]
    fourth = None
    if name in LOADS:
        fourth = generator(FOURTH, LOADS[name](args, seed + len(VICTIMS)))
    asyncio.run(together(victims, fourth))
    samples = {key: one.samples for key, one in zip(VICTIMS, victims, strict=True)}
    return {"victims": samples, "fourth": fourth.samples if fourth else []}


async def together(victims: list[Generator], fourth: Generator | None) -> None:
    """Until the victims have all of their answers; then the fourth hangs up."""
    beside = asyncio.create_task(fourth.drive()) if fourth else None
    await asyncio.gather(*(one.drive() for one in victims))
    if beside:
        beside.cancel()
        await asyncio.gather(beside, return_exceptions=True)


def figures(samples: dict[str, list[Sample]], warm: float) -> dict[str, Any]:
    """Seconds per token and to the first token over all victims, and p99 of each victim's own."""
    counted = {key: [s for s in own if s.began >= warm] for key, own in samples.items()}
    done = {key: [s for s in own if not s.error and s.tokens > 1] for key, own in counted.items()}
    if not all(done.values()):
        said = {s.error + " " + s.said for own in samples.values() for s in own}
        raise SystemExit(f"a victim had no answer in a whole turn: {said or 'more --seconds'}")
    every = [sample for own in done.values() for sample in own]
    return {
        "requests": len(every),
        "errors": sum(bool(s.error) for own in counted.values() for s in own),
        "time_per_output_token": percentiles([s.each for s in every]),
        "time_to_first_token": percentiles([s.first for s in every]),
        "p99_of_each": [percentiles([s.each for s in own])["p99"] for own in done.values()],
    }


def merged(turns: list[dict[str, Any]]) -> dict[str, list[Sample]]:
    """The samples of several rounds, by victim."""
    return {key: [s for one in turns for s in one["victims"][key]] for key in VICTIMS}


def measure(server: Server, args: argparse.Namespace) -> dict[str, Any]:
    """All turns, args.rounds times."""
    steal = steal_ticks()
    model = first_model(Address(server.url, FOURTH), args.patience)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in TURNS}
    for number in range(args.rounds):
        for name in TURNS:
            time.sleep(PAUSE)
            found[name].append(turn(name, server.url, model, args, 100 * number + 7))
    shown = {name: figures(merged(turns), args.warm) for name, turns in found.items()}
    rounds = {
        name: [
            figures(one["victims"], args.warm)["time_per_output_token"]["p99"]
            for one in found[name]
        ]
        for name in TURNS
    }
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "steal_ticks": steal_ticks() - steal,
        "is_paced": measured_pace(EngineConfig(args.model, threads=args.threads))[0] is not None,
        "setting": {
            key: getattr(args, key)
            for key in ("threads", "slots", "context", "clients", "flood", "seconds", "rounds")
        },
        "turns": shown,
        "attacker_answers": {
            name: sum(not s.error for one in found[name] for s in one["fourth"]) for name in ATTACKS
        },
        "ratio": {
            name: ratios(shown[name], shown["fair"], rounds[name], rounds["fair"])
            for name in ATTACKS
        },
        "goal": GOAL,
    }


def ratios(
    attack: dict[str, Any], fair: dict[str, Any], under: list[float], usual: list[float]
) -> dict[str, Any]:
    """TPOT under attack to that of the fair share; under, usual: p99 of every round."""
    rounds = [quotient(*pair) for pair in zip(under, usual, strict=True)]
    times = [one["time_per_output_token"] for one in (attack, fair)]
    each = zip(attack["p99_of_each"], fair["p99_of_each"], strict=True)
    return {
        "all": quotient(*(one["p99"] for one in times)),
        "median": quotient(*(one["p50"] for one in times)),
        "each": [quotient(*pair) for pair in each],
        "rounds": rounds,
        "median_of_rounds": statistics.median(rounds),
    }


def quotient(under: float, usual: float) -> float:
    return round(under / usual, 3)


def row(name: str, one: dict[str, Any]) -> str:
    each, first = one["time_per_output_token"], one["time_to_first_token"]
    return (
        f"{name:7} {one['requests']:5} requests, {one['errors']} errors, "
        f"TPOT p50 {1e3 * each['p50']:.1f} p99 {1e3 * each['p99']:.1f} ms, "
        f"TTFT p50 {first['p50']:.3f} p99 {first['p99']:.3f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("model")
    parser.add_argument("--clients", type=int, default=4, help="of each victim")
    parser.add_argument("--flood", type=int, default=60, help="requests of the attacker at once")
    parser.add_argument("--seconds", type=float, default=60, help="of one turn")
    parser.add_argument("--warm", type=float, default=10, help="seconds that do not count")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slots", type=int, default=EngineConfig().max_num_seqs)
    parser.add_argument("--context", type=int, default=3072, help="tokens of the longest request")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--patience", type=float, default=300, help="seconds for an answer")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument(
        "--save", action="store_true", help="the machine does nothing else: keep it"
    )
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # not before the server has ended
    setting = Setting(args.model, Path(), args.slots, args.context, args.threads, Path())
    keys = [word for key in (*VICTIMS, FOURTH) for word in ("--api-key", key)]
    server = Server("plait", setting, args.patience, keys)
    try:
        record = measure(server, args)
    finally:
        server.close()
    print("\n".join(row(name, one) for name, one in record["turns"].items()))
    print(json.dumps(record["ratio"]), "paced" if record["is_paced"] else "not paced")
    if args.save:
        out = args.results / f"attacker-{args.model}.json"
        out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
