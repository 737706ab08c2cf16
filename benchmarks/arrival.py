"""What a long prompt costs those whose answers are running, on a real `plait serve` over loopback.

    plait bench step smollm2-135m --threads 2     # once: without it the server does not know what a step costs
    python benchmarks/arrival.py smollm2-135m --save

`--clients` clients send short requests, each as soon as it has the answer to the last, in interleaved turns:

    usual      nothing else
    arrival    prompts of `--prompt` words, of most of which each is a token, come one after another

The time per output token (TPOT) of requests that ran while such a prompt was computed is compared with that of
`usual`. The goal is p99 at most `GOAL` times as long.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

from peers import machine, steal_ticks
from servers import Server, Setting

from plait.analysis.load import Generator, Sample, first_model, percentiles
from plait.analysis.load_client import Address
from plait.analysis.workload import Load
from plait.core.config import EngineConfig
from plait.engine.pace import measured_pace

HERE = Path(__file__).resolve().parent
TURNS = ("usual", "arrival")
GOAL = 2.0
REQUESTS = 5000
"""More than are sent in a turn."""


def streams(args: argparse.Namespace, seed: int) -> Load:
    return Load(
        requests=REQUESTS,
        seconds=args.seconds,
        concurrency=args.clients,
        prompt_words=64,
        spread=0.2,
        tokens=args.tokens,
        seed=seed,
    )


def prompts(args: argparse.Namespace, seed: int) -> Load:
    """One under way at a time; its answer is short."""
    return Load(
        requests=REQUESTS,
        seconds=args.seconds - args.warm,
        concurrency=1,
        prompt_words=args.prompt,
        tokens=2,
        seed=seed,
    )


async def turn(
    name: str, address: Address, model: str, args: argparse.Namespace, seed: int
) -> dict[str, list[Sample]]:
    """Samples of the running requests and of the long prompts, whose times count from the same moment."""
    running = Generator(address, model, streams(args, seed), args.patience)
    long = Generator(address, model, prompts(args, seed + 1), args.patience)
    begin = asyncio.create_task(running.drive())
    await asyncio.sleep(args.warm)
    if name == "arrival":
        await long.drive()
    await begin
    for sample in long.samples:
        sample.began += args.warm
        sample.times = [moment + args.warm for moment in sample.times]
    return {"running": running.samples, "long": long.samples}


def affected(samples: list[Sample], long: list[Sample]) -> list[Sample]:
    """Those of which a token was generated while a long prompt was computed."""
    spans = [(one.began, one.times[0]) for one in long if one.times]
    return [
        sample
        for sample in samples
        if any(sample.times[0] < end and begin < sample.times[-1] for begin, end in spans)
    ]


def figures(samples: list[Sample]) -> dict[str, Any]:
    each = [sample.each for sample in samples]
    gaps = [b - a for s in samples for a, b in zip(s.times, s.times[1:], strict=False)]
    return {
        "requests": len(samples),
        "time_per_output_token": percentiles(each),
        "time_between_pieces": percentiles(gaps),
    }


def summed_up(found: dict[str, list[dict[str, list[Sample]]]], warm: float) -> dict[str, Any]:
    """Figures of both turns over all rounds. Raises SystemExit when one shows nothing."""

    def done(samples: list[Sample]) -> list[Sample]:
        return [s for s in samples if not s.error and s.tokens > 1 and s.began >= warm / 2]

    usual = [s for one in found["usual"] for s in done(one["running"])]
    hit = [s for one in found["arrival"] for s in affected(done(one["running"]), one["long"])]
    long = [s for one in found["arrival"] for s in one["long"]]
    answered = [s for s in long if not s.error]
    if not usual or not hit or not answered:
        said = {s.error + " " + s.said for s in long if s.error}
        raise SystemExit(f"a turn shows nothing: {said or 'more --seconds'}")
    shown = {"usual": figures(usual), "arrival": figures(hit)}
    ratio = {
        share: shown["arrival"]["time_per_output_token"][share]
        / shown["usual"]["time_per_output_token"][share]
        for share in ("p50", "p99")
    }
    return {
        "turns": shown,
        "errors": sum(
            bool(s.error) for turns in found.values() for o in turns for s in o["running"]
        ),
        "prompts": {
            "answered": len(answered),
            "errors": len(long) - len(answered),
            "tokens_least": min(s.prompt_tokens for s in answered),
            "time_to_first_token": percentiles([s.times[0] - s.began for s in answered]),
        },
        "ratio": {share: round(value, 3) for share, value in ratio.items()},
        "goal": GOAL,
    }


def measure(server: Server, args: argparse.Namespace) -> dict[str, Any]:
    """Both turns, args.rounds times."""
    steal = steal_ticks()
    address = Address(server.url, "")
    model = first_model(address, args.patience)
    found: dict[str, list[dict[str, list[Sample]]]] = {name: [] for name in TURNS}
    for number in range(args.rounds):
        for name in TURNS:
            found[name].append(asyncio.run(turn(name, address, model, args, 100 * number)))
    pace = measured_pace(EngineConfig(args.model, threads=args.threads))[0]
    settings = ("threads", "clients", "tokens", "prompt", "seconds", "rounds", "context")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "steal_ticks": steal_ticks() - steal,
        "is_paced": pace is not None,
        "stretch": EngineConfig().max_step_stretch,
        "setting": {key: getattr(args, key) for key in settings},
        **summed_up(found, args.warm),
    }


def row(name: str, one: dict[str, Any]) -> str:
    each, gap = one["time_per_output_token"], one["time_between_pieces"]
    return (
        f"{name:8} {one['requests']:5} requests, TPOT p50 {1e3 * each['p50']:.1f} p99 "
        f"{1e3 * each['p99']:.1f} ms, between pieces p99 {1e3 * gap['p99']:.1f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("model")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=96, help="of each of their answers")
    parser.add_argument("--prompt", type=int, default=4096, help="words of a long prompt")
    parser.add_argument("--seconds", type=float, default=30, help="of one turn")
    parser.add_argument("--warm", type=float, default=3, help="seconds before the first prompt")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slots", type=int, default=EngineConfig().max_num_seqs)
    parser.add_argument("--context", type=int, default=6144, help="tokens of the longest request")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--patience", type=float, default=120, help="seconds for an answer")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument(
        "--save", action="store_true", help="the machine does nothing else: keep it"
    )
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # not before the server has ended
    setting = Setting(args.model, Path(), args.slots, args.context, args.threads, Path())
    server = Server("plait", setting, args.patience)
    try:
        record = measure(server, args)
    finally:
        server.close()
    print("\n".join(row(name, one) for name, one in record["turns"].items()))
    print(json.dumps(record["prompts"]))
    print(json.dumps(record["ratio"]), "paced" if record["is_paced"] else "not paced")
    if args.save:
        out = args.results / f"arrival-{args.model}.json"
        out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
