"""The cost model of lone requests: planted coefficients come back, and contention is taken out of a load."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from plait.analysis.ideal import (
    Cost,
    Point,
    between,
    denoised,
    errors,
    fit,
    grid,
    left_out,
    measure,
    recorded,
)
from plait.cli.main import app
from plait.core.errors import UserError
from tests.analysis.test_load import ANSWER, HEAD, serving

PLANTED = Cost((0.004, 6e-4, 2e-7, 0.011, 3e-6))


def points(pairs: list[tuple[int, int]], noise: float = 0.0) -> list[Point]:
    random = np.random.default_rng(3)
    return [
        Point(p, o, float(PLANTED.seconds([Point(p, o, 0.0)])[0]) * (1 + noise * random.normal()))
        for p, o in pairs
    ]


def test_planted_coefficients_are_recovered() -> None:
    assert fit(points(grid())).coefficients == pytest.approx(PLANTED.coefficients, rel=1e-6)


def test_the_formula() -> None:
    expected = 0.004 + 6e-4 * 100 + 2e-7 * 100**2
    assert PLANTED.prefill(100) == pytest.approx(expected)
    expected += 2 * 0.011 + 3e-6 * (101 + 102)
    assert PLANTED.seconds([Point(100, 3, 0.0)])[0] == pytest.approx(expected)


def test_noise_is_seen_in_the_cross_validated_error_and_held_out_points_are_met() -> None:
    measured, tests = points(grid(), noise=0.02), points(between(30, 1))
    found = errors(measured, left_out(measured))
    assert 0.002 < found["median_error"] < 0.05
    found = errors(tests, fit(measured).seconds(tests))
    assert found["r_squared"] > 0.99
    assert found["median_error"] < 0.03


def test_what_a_competing_load_added_is_taken_out() -> None:
    alone = points(between(10, 2))
    loaded = [Point(one.prompt_tokens, one.tokens, 1.8 * one.seconds) for one in alone]
    found = denoised(fit(points(grid())), loaded)
    assert found["stretch"]["p50"] == pytest.approx(1.8)
    assert [one["ideal_seconds"] for one in found["requests"]] == pytest.approx(
        [one.seconds for one in alone]
    )


@pytest.mark.parametrize("pairs", [[(8, 2)] * 3, [(8, 2)] * 20, [(8, o) for o in range(1, 20)]])
def test_points_that_settle_nothing_are_refused(pairs: list[tuple[int, int]]) -> None:
    with pytest.raises(UserError, match="do not settle"):
        fit(points(pairs))


def test_requests_are_measured_with_the_lengths_that_the_server_counts() -> None:
    with serving(lambda body: [HEAD + b"\r\n", *ANSWER]) as (server, address):
        found = measure(address, "m", [(5, 3), (9, 4)], seed=0)
    assert [(one.prompt_tokens, one.tokens) for one in found] == [(7, 3)] * 2
    assert [body["max_tokens"] for body in server.bodies] == [3, 4]
    assert server.most_open == 1


def test_a_request_that_fails_is_no_point() -> None:
    with (
        serving(lambda body: [b"HTTP/1.1 503 Busy\r\n\r\n"]) as (_, address),
        pytest.raises(UserError, match="not measured: 503"),
    ):
        measure(address, "m", [(5, 3)], seed=0)


def test_a_record_of_bench_serve_is_read(tmp_path: Path) -> None:
    out = tmp_path / "serve.json"
    with serving(lambda body: [HEAD + b"\r\n", *ANSWER]) as (_, address):
        where = f"127.0.0.1:{address.port}"
        options = ["--model", "m", "--concurrency", "2", "--requests", "4", "--out", str(out)]
        assert CliRunner().invoke(app, ["bench", "serve", where, *options]).exit_code == 0
    found = recorded(json.loads(out.read_text()))
    assert [(one.prompt_tokens, one.tokens) for one in found] == [(7, 3)] * 4


@pytest.mark.parametrize("text", ["no", "[]", "{}", '{"answers": 3}'])
def test_what_is_no_record_is_said(text: str, tmp_path: Path) -> None:
    file = tmp_path / "load.json"
    file.write_text(text)
    result = CliRunner().invoke(app, ["ideal", "--load", str(file)])
    assert result.exit_code == 2
    assert "bench serve --out" in result.output
