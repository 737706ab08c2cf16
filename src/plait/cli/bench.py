"""`plait bench`: how fast a model is on this machine. One file per kind of measurement."""

from __future__ import annotations

import typer

from plait.cli import (
    bench_attention,
    bench_diffusion,
    bench_gemm,
    bench_latency,
    bench_serve,
    bench_speculative,
    bench_step,
    bench_throughput,
)


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="Measure a model on this machine.", no_args_is_help=True)
    group.command()(bench_latency.latency)
    group.command()(bench_throughput.throughput)
    group.command()(bench_gemm.gemm)
    group.command()(bench_attention.attention)
    group.command()(bench_step.step)
    group.command()(bench_diffusion.diffusion)
    group.command()(bench_serve.serve)
    group.command()(bench_speculative.speculative)
    app.add_typer(group, name="bench")
