"""`plait bench gemm`: the linear kernels alone."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from plait.cli.bench_record import Out, Record
from plait.cli.names import default_model
from plait.cli.session import fetch

SPARSE_ROW = "{format:7}{shape:>14}{rows:5}  dense{dense:9.0f} us  2:4{sparse:9.0f} us  {speedup:.2f}x (median {median:.2f}x)"
ROW = "{format:7}{shape:>14}{rows:5}{us:10.0f} us{read:8.1f} GB/s{of_read:5.0%}{macs:8.1f} GMAC/s{of_macs:5.0%}"


def gemm(
    model: Annotated[str | None, typer.Argument(show_default=False)] = None,
    *,
    weights: Annotated[str, typer.Option("--format", help="Only matrices of this format.")] = "",
    rows: Annotated[
        list[int] | None, typer.Option(min=1, help="Rows of x (tokens). May be repeated.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.0, help="For each measurement, about.")] = 0.25,
    threads: Annotated[int, typer.Option(min=0, help="0 is what this machine allows.")] = 0,
    isa: Annotated[str, typer.Option(help="Kernel table.")] = "auto",
    sparse: Annotated[
        bool,
        typer.Option("--sparse", help="Prune them to 2:4; compare sparse with dense panels."),
    ] = False,
    offline: Annotated[bool, typer.Option("--offline")] = False,
    out: Out = None,
) -> None:
    """Measure the linear kernels on the matrices of a model, per format, shape and number of tokens.

    The matrices are copied until they are several times larger than the caches. The shares are those of
    what this machine reads from memory (several streams per thread) and multiplies (in registers, 8-bit
    integers, without scales), both measured first.
    """
    model = model or default_model()
    path = fetch(model, offline=offline)
    record = Record("gemm", model, out)
    from plait.analysis import gemm as measuring
    from plait.analysis import roofline
    from plait.engine import facts

    pool, top = roofline.measured(threads, isa)
    tiles = facts.choose_tiles(isa)
    print(roofline.words(pool, top))
    from plait.analysis import sparse as two_of_four

    chosen = tuple(rows or measuring.ROWS)
    measure, line = (two_of_four.measure, _sparse_line) if sparse else (measuring.measure, _line)
    found = []
    for one in measure(path, pool, top, wanted=weights, rows=chosen, seconds=seconds, isa=isa):
        print(line(one))
        found.append(one)
    record.close(peaks=asdict(top), threads=pool.size, isa=isa, tiles=tiles, products=found)


def _sparse_line(one: dict[str, Any]) -> str:
    return SPARSE_ROW.format(
        format=one["format"],
        shape="x".join(map(str, one["shape"])),
        rows=one["rows"],
        dense=one["dense_microseconds"],
        sparse=one["sparse_microseconds"],
        speedup=one["speedup"],
        median=one["median_speedup"],
    )


def _line(one: dict[str, Any]) -> str:
    return ROW.format(
        format=one["format"],
        shape="x".join(map(str, one["shape"])),
        rows=one["rows"],
        us=one["microseconds"],
        read=one["gigabytes_per_second"],
        of_read=one["of_read"],
        macs=one["gigamacs_per_second"],
        of_macs=one["of_multiply"],
    )
