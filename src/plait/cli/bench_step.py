"""`plait bench step`: what one engine step costs, kept for the parts that plan with it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, replace
from typing import Annotated

import typer

from plait.cli.bench_limits import Limits, plain
from plait.cli.bench_record import Out, Record
from plait.cli.flags import ENGINE
from plait.cli.names import default_model
from plait.cli.options import takes
from plait.cli.session import fetch
from plait.core.config import EngineConfig
from plait.core.errors import UserError


@takes(engine=ENGINE)
def step(
    model: Annotated[str | None, typer.Argument(show_default=False)] = None,
    *,
    engine: EngineConfig,
    passes: Annotated[int, typer.Option(min=1, help="Measured passes, after a warm-up.")] = 5,
    out: Out = None,
) -> None:
    """Measure one step by the tokens it feeds and the context behind them.

    The result is kept in the cache folder, for this machine and version, the model, and the options that matter.
    Prefixes are not cached and nothing is drafted: the same chunk is measured again and again.
    """
    engine = plain(replace(engine, model=model or default_model(), enable_prefix_caching=False))
    if engine.proposer != "none":
        raise UserError(
            f"a step is measured without drafts, so there is no use for the proposer {engine.proposer!r}",
            "leave it out",
        )
    record = Record("step", engine.model, out)
    fetch(engine.model, offline=engine.offline)
    from plait.analysis.steps import measure
    from plait.engine.build import build
    from plait.engine.pace import setup
    from plait.weights.hub import cache_root

    built = build(engine)
    with closing(built):
        cost = measure(built.engine, setup(engine), passes=passes)
    limits = Limits(engine)
    print("milliseconds of a step, and the limit's share of it; context:")
    print(" " * 12 + "".join(f"{context:9}     " for context in cost.contexts))
    for place, count in enumerate(cost.tokens):
        pairs = zip(cost.contexts, cost.chunk_seconds, strict=True)
        cells = (_cell(row[place], limits.roof.chunk(count, context)) for context, row in pairs)
        print(f"{count:5} tokens{''.join(cells)}")
    for count, seconds in zip(cost.logits, cost.head_seconds, strict=True):
        print(f"{count:5} logits{1e3 * seconds:9.2f} more")
    print(f"kept in {cost.save(cache_root())}")
    print(limits.words)
    record.close(**limits.fields, cost=asdict(cost), engine=asdict(engine))


def _cell(seconds: float, limit: float) -> str:
    return f"{1e3 * seconds:9.2f}{limit / seconds:5.0%}"
