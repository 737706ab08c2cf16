"""`plait bench attention`: the attention op alone."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from plait.cli.bench_record import Out, Record
from plait.cli.names import default_model
from plait.cli.session import fetch
from plait.core.errors import UserError

KINDS = ("f16", "int8", "f32")
ROW = (
    "{name:24}{kv:>5}{milliseconds:10.2f} ms{core_nanoseconds_per_pair:8.2f} ns"
    "{gigabytes_per_second:8.1f} GB/s{of_read:5.0%}{gigamacs_per_second:8.1f} GMAC/s{of_multiply:5.0%}"
    "  unified{unified_gain:6.3f}x"
)


def attention(
    model: Annotated[str | None, typer.Argument(show_default=False)] = None,
    *,
    load: Annotated[
        list[str] | None, typer.Option(help='E.g. "decode 8 at 512". May be repeated.')
    ] = None,
    kv: Annotated[
        list[str] | None, typer.Option(help=f"Of {', '.join(KINDS)}. May be repeated.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.0, help="For each measurement, about.")] = 1.0,
    threads: Annotated[int, typer.Option(min=0, help="0 is what this machine allows.")] = 0,
    isa: Annotated[str, typer.Option(help="Kernel table.")] = "auto",
    offline: Annotated[bool, typer.Option("--offline")] = False,
    out: Out = None,
) -> None:
    """Measure attention alone, over all layers of a model, on keys and values larger than the caches.

    A row: milliseconds of a step, nanoseconds of one core per query and slot, keys and values read, and
    products. The shares are those of what this machine reads from memory and multiplies (8-bit integers)
    at most, both measured first. Then how many times as fast the softmax with a maximum known beforehand is
    (FlashDecoding++), measured in turns with the other. If all loads are measured, the geometric mean decides which of
    the two later runs on this machine use with heads of this shape.
    """
    model = model or default_model()
    path = fetch(model, offline=offline)
    record = Record("attention", model, out)
    from plait.analysis import attention_bench, roofline
    from plait.engine.facts import model_work

    loads = attention_bench.LOADS
    _refuse_others("load", load, tuple(loads))
    _refuse_others("kv", kv, KINDS)
    work = model_work(path)
    pool, peaks = roofline.measured(threads, isa)
    print(roofline.words(pool, peaks))
    found: list[dict[str, Any]] = []
    for name in load or loads:
        for kind in kv or KINDS[:1]:
            one = attention_bench.measure(
                work, loads[name], kind, pool, peaks, isa=isa, seconds=seconds
            )
            found.append({"name": name, **one})
            print(ROW.format(**found[-1]))
    chosen = attention_bench.choose_softmax(work, found, isa)
    for kind, gain in chosen.items():
        print(f"softmax for {kind}: unified {gain:.3f}x as fast over all loads")
    record.close(peaks=asdict(peaks), threads=pool.size, isa=isa, loads=found, softmax=chosen)


def _refuse_others(what: str, given: list[str] | None, known: tuple[str, ...]) -> None:
    for one in given or ():
        if one not in known:
            raise UserError(f"no {what} called {one!r}", f"one of: {', '.join(known)}")
