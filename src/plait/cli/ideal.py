"""`plait ideal`: what requests take when nothing else runs."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plait.cli.bench_record import Out, Record
from plait.core.errors import UserError

if TYPE_CHECKING:
    from plait.analysis.ideal import Point


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(ideal)


def ideal(
    url: Annotated[str, typer.Argument(help="Idle server on this machine.")] = (
        "http://127.0.0.1:8000"
    ),
    *,
    model: Annotated[str, typer.Option(help="By default the first that the server lists.")] = "",
    load: Annotated[
        Path | None, typer.Option(help="Record of bench serve --out to look at.", metavar="FILE")
    ] = None,
    held_out: Annotated[
        int, typer.Option(min=2, max=1000, help="Further requests that test the fit.")
    ] = 30,
    hourly: Annotated[float, typer.Option(min=0.0, help="Price of the machine per hour.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the prompts.")] = 0,
    key: Annotated[str, typer.Option(envvar="PLAIT_API_KEY", help="The server's API key.")] = "",
    out: Out = None,
) -> None:
    """Measure 20 lone requests, fit T(prompt, answer), and say what a recorded load takes without contention.

    plait ideal http://127.0.0.1:8000 --load serve.json

    Nothing else may use the server meanwhile; its model and settings must be those of the recorded load.
    """
    from plait.analysis import ideal as cost_model
    from plait.analysis.load import first_model
    from plait.analysis.load_client import Address

    under_load = None if load is None else cost_model.recorded(_read(load))
    address = Address(url, key)
    model = model or first_model(address, 10.0)
    record = Record("ideal", model, out)
    cost_model.measure(address, model, [(16, 4)], seed)  # the first finds everything cold
    fitted = cost_model.measure(address, model, cost_model.grid(), seed + 1)
    pairs = cost_model.between(held_out, seed)
    tests = cost_model.measure(address, model, pairs, seed + 1_000_000)
    cost = cost_model.fit(fitted)
    found: dict[str, Any] = {
        "coefficients": dict(zip(cost_model.TERMS, cost.coefficients, strict=True)),
        "cross_validated": cost_model.errors(fitted, cost_model.left_out(fitted)),
        "held_out": cost_model.errors(tests, cost.seconds(tests)),
    }
    print(f"{model} at {address.host}:{address.port}")
    for name, value in found["coefficients"].items():
        print(f"{name:26}{1e3 * value:12.6f} ms")
    for name in ("cross_validated", "held_out"):
        print(_line(name, found[name]))
    if under_load is not None:
        found["load"] = cost_model.denoised(cost, under_load)
        _tell(found["load"], under_load, hourly)
    record.close(**found, measured=_plain(fitted), tested=_plain(tests), hourly=hourly)


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is no record: {error}", "a file of bench serve --out") from None


def _line(name: str, found: dict[str, float]) -> str:
    words = name.replace("_", " ")
    return (
        f"{words:18}{found['points']} points, R² {found['r_squared']:.4f}, error "
        f"{found['median_error']:.1%} median, {found['largest_error']:.1%} at most"
    )


def _tell(found: dict[str, Any], points: list[Point], hourly: float) -> None:
    measured, alone = found["measured_seconds"], found["ideal_seconds"]
    stretch = found["stretch"]
    print(
        f"{len(points)} requests of the load: {measured:.1f} s measured in all, {alone:.1f} s alone; "
        f"{stretch['p50']:.2f} times as long (median), {stretch['max']:.2f} at most"
    )
    if hourly:
        tokens = sum(point.tokens for point in points)
        found["price_per_million_tokens"] = alone * hourly / 3600 / tokens * 1e6
        print(f"one after the other {found['price_per_million_tokens']:.4f} per million tokens")


def _plain(points: list[Point]) -> list[dict[str, Any]]:
    return [asdict(point) for point in points]
