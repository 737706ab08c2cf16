"""`plait bench throughput`: many requests at once."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, replace
from typing import Annotated, Any

import typer

from plait.cli.bench_limits import Limits, plain, refuse_longer
from plait.cli.bench_record import Out, Record
from plait.cli.flags import ENGINE
from plait.cli.names import default_model
from plait.cli.options import takes
from plait.cli.session import fetch
from plait.core.config import EngineConfig


@takes(engine=ENGINE)
def throughput(
    model: Annotated[str | None, typer.Argument(show_default=False)] = None,
    *,
    engine: EngineConfig,
    batch: Annotated[int, typer.Option(min=1, help="Requests that arrive together.")] = 8,
    prompt_tokens: Annotated[int, typer.Option(min=1, help="Length of each prompt.")] = 128,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens to generate for each.")] = 64,
    runs: Annotated[int, typer.Option(min=1, help="Measured runs, after one warm-up.")] = 3,
    out: Out = None,
) -> None:
    """Measure many requests at once: tokens per second of all together, medians over several runs.

    Greedy, end tokens ignored, nothing drafted unless a proposer is named, every request with a random prompt of its
    own. The limit is the time that this machine takes to read the weights once for all prompts and once for every further token of all requests, with
    the caches, or to multiply in 8-bit integers, whichever is longer.
    """
    engine = plain(replace(engine, model=model or default_model()))
    record = Record("throughput", engine.model, out)
    found = _measure(engine, (batch, prompt_tokens, tokens), runs)
    rates, limits = found["median"], Limits(engine)
    steps = (tokens - 1) * limits.roof.decode(prompt_tokens + tokens // 2, batch)
    share = (limits.roof.prefill(prompt_tokens, batch) + steps) / rates["seconds"]
    print(f"{engine.model}, {batch} requests of {prompt_tokens} + {tokens} tokens, {runs} runs")
    print(f"generated  {rates['tokens_per_second']:8.1f} tok/s")
    print(f"in all     {rates['all_tokens_per_second']:8.1f} tok/s, prompts included")
    print(f"TTFT       {rates['time_to_first_token']:8.3f} s, median of the requests")
    print(f"{share:.0%} of the limit; {limits.words}")
    record.close(**found, **limits.fields, of_limit=share, runs=runs, engine=asdict(engine))


def _measure(config: EngineConfig, load: tuple[int, int, int], runs: int) -> dict[str, Any]:
    fetch(config.model, offline=config.offline)
    from plait.analysis.throughput import Load, measure
    from plait.engine.build import build

    built = build(config)
    with closing(built):
        refuse_longer(built.engine.traits.context_length, load[1] + load[2])
        return measure(built.engine, Load(*load), runs)
