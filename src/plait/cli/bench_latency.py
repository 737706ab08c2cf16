"""`plait bench latency`: one request at a time."""

from __future__ import annotations

from dataclasses import asdict, replace
from statistics import median
from typing import Annotated, Any

import typer

from plait.cli.bench_limits import Limits, plain, refuse_longer
from plait.cli.bench_record import Out, Record
from plait.cli.flags import ENGINE
from plait.cli.names import default_model
from plait.cli.options import takes
from plait.cli.session import Session
from plait.cli.stats import timings
from plait.cli.terminal import note
from plait.core.config import EngineConfig
from plait.core.errors import UserError
from plait.core.params import SamplingParams

ROW = "{:9}{:8.1f} tok/s  ({} tokens)  {:4.0%} of the limit"
MOST_STEPS = 64
"""Of one request, for what is spent outside the kernels."""
RATES = ("prompt_per_second", "decode_per_second", "time_to_first_token")


@takes(engine=ENGINE)
def latency(
    model: Annotated[str | None, typer.Argument(show_default=False)] = None,
    *,
    engine: EngineConfig,
    prompt_tokens: Annotated[int, typer.Option(min=1, help="Length of the prompt.")] = 512,
    tokens: Annotated[int, typer.Option(min=2, help="Tokens to generate.")] = 128,
    runs: Annotated[int, typer.Option(min=1, help="Measured runs, after one warm-up.")] = 5,
    cached: Annotated[
        bool, typer.Option("--cached", help="Ask everything twice: how fast is a cached prompt?")
    ] = False,
    out: Out = None,
) -> None:
    """Measure prefill and decode of one request at a time; medians over several runs.

    Prefill: prompt tokens per second until the first token. Decode: tokens per second after it. Greedy,
    end tokens ignored, nothing drafted unless a proposer is named, every run with another prompt, so that none is
    found cached. The limit is the time that this machine takes to read the weights and the cache once for every forward, or to multiply in 8-bit integers, whichever is longer.
    Then what else than the model's kernels a step takes time for: planning, choosing a token, events.
    """
    if cached and not engine.enable_prefix_caching:
        raise UserError("--cached measures the prefix cache, which is off", "leave one of both out")
    model = model or default_model()
    record = Record("latency", model, out)
    engine = plain(replace(engine, model=model))
    session = Session(engine)
    refuse_longer(session.context_length, prompt_tokens + tokens)
    load = prompt_tokens, tokens
    results = [_run(session, number, *load) for number in range(runs + 1)][1:]
    rates = {rate: median(result[rate] for result in results) for rate in RATES}
    print(f"{model}, {runs} runs")
    found = Limits(engine)
    shares = {
        "prefill": rates["prompt_per_second"] * found.roof.prefill(prompt_tokens) / prompt_tokens,
        "decode": rates["decode_per_second"] * found.roof.decode(prompt_tokens + tokens // 2),
    }
    print(ROW.format("prefill", rates["prompt_per_second"], prompt_tokens, shares["prefill"]))
    print(ROW.format("decode", rates["decode_per_second"], tokens, shares["decode"]))
    print(f"TTFT     {rates['time_to_first_token']:8.3f} s")
    again = [_run(session, number, *load) for number in range(1, runs + 1)] if cached else []
    if again:
        print(_cached_row(again, rates["time_to_first_token"]))
    outside = session.outside_kernels(prompt_tokens, min(tokens - 1, MOST_STEPS))
    if outside:
        shares_of = ", ".join(f"{way} {share:.1%}" for way, share in outside.items())
        print(f"outside the kernels, of a decoding step: {shares_of}")
    print(found.words)
    record.close(
        **found.fields,
        of_limit=shares,
        prompt_tokens=prompt_tokens,
        tokens=tokens,
        median=rates,
        runs=results,
        cached_runs=again,
        outside_kernels=outside,
        counters=dict(session.counters),
        engine=asdict(engine),
    )


def _cached_row(again: list[dict[str, Any]], cold: float) -> str:
    """Of prompts that were asked before; cold: seconds to the first token when they were not."""
    warm = median(result["time_to_first_token"] for result in again)
    found = median(result["cached_tokens"] for result in again)
    return f"cached   {warm:8.3f} s to the first token, {warm / cold:.1%} of cold ({found:.0f} tokens found)"


def _run(session: Session, number: int, prompt_tokens: int, tokens: int) -> dict[str, Any]:
    """One request with a prompt of its own, so that no run finds another's prefix cached."""
    params = SamplingParams(temperature=0.0, max_tokens=tokens, ignore_eos=True)
    ids = [(7919 * number + 31 * place) % session.vocab_size for place in range(prompt_tokens)]
    result = timings(session.generate({"prompt_token_ids": ids}, params))
    note(f"run {number}: {result['prompt_per_second']:.1f} {result['decode_per_second']:.1f} tok/s")
    return result
