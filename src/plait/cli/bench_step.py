"""`plait bench step`: what one engine step costs, kept for the parts that plan with it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, replace
from typing import Annotated

import typer

from plait.cli.bench_record import Out, Record
from plait.cli.flags import ENGINE
from plait.cli.machine import machine
from plait.cli.names import default_model
from plait.cli.options import takes
from plait.cli.session import fetch
from plait.core.config import EngineConfig


@takes(engine=ENGINE)
def step(
    model: Annotated[str | None, typer.Argument(show_default=False)] = None,
    *,
    engine: EngineConfig,
    passes: Annotated[int, typer.Option(min=1, help="Measured passes, after a warm-up.")] = 5,
    out: Out = None,
) -> None:
    """Measure one step by the tokens it feeds and the context behind them.

    The result is kept in the cache folder, for this machine, model, kernel table and number of threads.
    """
    engine = replace(engine, model=model or default_model())
    record = Record("step", engine.model, out)
    fetch(engine.model, offline=engine.offline)
    from plait.analysis.step_cost import Setup
    from plait.analysis.steps import measure
    from plait.engine.build import build
    from plait.weights.hub import cache_root

    here = machine()
    setup = Setup(
        engine.model,
        here["processor"],
        here["isa"] if engine.isa == "auto" else engine.isa,
        engine.threads or here["threads"],
    )
    built = build(engine)
    with closing(built):
        cost = measure(built.engine, setup, passes=passes)
    print("milliseconds of a step; context:" + "".join(f"{c:9}" for c in cost.contexts))
    for place, count in enumerate(cost.tokens):
        cells = "".join(f"{1e3 * row[place]:9.2f}" for row in cost.chunk_seconds)
        print(f"{count:26} tokens{cells}")
    for count, seconds in zip(cost.logits, cost.head_seconds, strict=True):
        print(f"{count:20} more logits{1e3 * seconds:9.2f}")
    print(f"kept in {cost.save(cache_root())}")
    record.close(cost=asdict(cost), engine=asdict(engine))
