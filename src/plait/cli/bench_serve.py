"""`plait bench serve`: a server under load."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plait.analysis.workload import Load
from plait.cli.bench_record import Out, Record
from plait.cli.load_flags import LOAD, GoalEach, GoalFirst
from plait.cli.options import takes
from plait.core.errors import UserError

if TYPE_CHECKING:
    from plait.analysis.load import Sample

ROW = "{:22}{p50:9.1f}{p90:9.1f}{p95:9.1f}{p99:9.1f}{max:9.1f}"
MILLISECONDS = {
    "time_to_first_token": "TTFT",
    "time_per_output_token": "TPOT",
    "time_between_pieces": "between two pieces",
    "latency": "whole answer",
}


@takes(load=LOAD)
def serve(
    url: Annotated[str, typer.Argument(help="Server on this machine.")] = "http://127.0.0.1:8000",
    *,
    model: Annotated[str, typer.Option(help="By default the first that the server lists.")] = "",
    load: Load,
    goal_first: GoalFirst = 1.0,
    goal_each: GoalEach = 0.1,
    patience: Annotated[
        float, typer.Option(min=0.01, help="Seconds until an answer counts as lost.")
    ] = 120.0,
    key: Annotated[str, typer.Option(envvar="PLAIT_API_KEY", help="The server's API key.")] = "",
    out: Out = None,
) -> None:
    """Put a load on a server with OpenAI's API, and measure how it answers.

    plait bench serve --rate 2                      2 requests per second, a Poisson process

    plait bench serve --rate 2 --variation 3        the same in bursts

    plait bench serve --concurrency 32              32 requests always under way

    Streamed greedy completions of random words, end tokens ignored (`ignore_eos`, which Plait, llama.cpp and
    vLLM know). Times are in milliseconds, TTFT from when a request was due.
    """
    if not load.rate and not load.concurrency:
        raise UserError("how much load?", "give --rate or --concurrency")
    from plait.analysis.load import Generator, first_model, summary
    from plait.analysis.load_client import Address

    address = Address(url, key)
    model = model or first_model(address, patience)
    record = Record("serve", model, out)
    generator = Generator(address, model, load, patience)
    samples = generator.run()
    found = summary(samples, load, (goal_first, goal_each))
    found["kv_cache_usage"] = generator.occupancy.points
    print(f"{model} at {address.host}:{address.port}")
    for line in _lines(found):
        print(line)
    answers = [_answer(sample) for sample in samples if not sample.error]
    record.close(**found, answers=answers, load=asdict(load), patience=patience)


def _answer(sample: Sample) -> dict[str, float]:
    """What the record keeps of one complete answer; seconds after the load began."""
    return {
        "due": sample.due,
        "began": sample.began,
        "ended": sample.ended,
        "prompt_tokens": sample.prompt_tokens,
        "tokens": sample.tokens,
    }


def _lines(found: dict[str, Any]) -> list[str]:
    """The table. What there was none of has no line."""
    rows = [
        f"{found['answered']} of {found['requests']} answered in {found['seconds']:.1f} s",
        f"generated  {found['tokens_per_second']:8.1f} tok/s, {found['requests_per_second']:.2f} requests/s,"
        f" {found['goodput']['requests_per_second']:.2f} of them within the goal",
        f"{'milliseconds':22}{'p50':>9}{'p90':>9}{'p95':>9}{'p99':>9}{'max':>9}",
    ]
    for name, words in MILLISECONDS.items():
        if times := found[name]:
            rows.append(ROW.format(words, **{share: 1e3 * time for share, time in times.items()}))
    if found["stragglers"]:
        rows.append(f"{found['stragglers']} answers took more than 3 times the median")
    if found["kv_cache_usage"]:
        most = max(share for _, share in found["kv_cache_usage"])
        rows.append(f"KV cache   {most:.2%} in use at most")
    if arrivals := found["arrivals"]:
        rows.append("arrivals   {rate:.2f}/s, variation {variation:.2f}".format(**arrivals))
        rows.append(f"the generator was late by {1e3 * arrivals['latest_start']:.1f} ms at most")
    for kind, error in found["errors"].items():
        rows.append(f"{error['count']} x {kind}  {error['first']}".rstrip())
    return rows
