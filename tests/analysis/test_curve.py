"""Intervals, percentiles, areas and pictures, against numbers that are known."""

from __future__ import annotations

from math import exp
from xml.etree import ElementTree

import pytest

from plait.analysis.curve import area, percentile, wilson
from plait.analysis.plot import picture


@pytest.mark.parametrize(
    ("successes", "trials", "interval"),
    [
        (0, 10, (0.0, 0.2775)),
        (10, 10, (0.7225, 1.0)),
        (5, 10, (0.2366, 0.7634)),
        (81, 263, (0.2553, 0.3662)),
    ],
)
def test_the_interval_is_wilsons(
    successes: int, trials: int, interval: tuple[float, float]
) -> None:
    """The last is the worked example of Newcombe 1998."""
    assert wilson(successes, trials) == pytest.approx(interval, abs=5e-5)


def test_a_percentile_is_a_value_that_occurred() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert [percentile(values, p) for p in (50, 95, 99, 100)] == [50, 95, 99, 100]
    assert percentile([3.0], 50) == percentile([3.0], 99) == 3.0
    assert percentile([1.0, 2.0], 50) == 1.0


def test_the_area_of_an_accurate_curve_is_accuracy_times_speed() -> None:
    assert area([(1.0, 0.8), (4.0, 0.8), (2.0, 0.8)], 0.8) == pytest.approx(3.2)


def test_speed_bought_with_errors_counts_for_less() -> None:
    worse = 0.4 * exp(-3 * 0.5)
    expected = 1.0 * 0.8 + 3.0 * (0.8 + worse) / 2
    assert area([(4.0, 0.4), (1.0, 0.8)], 0.8) == pytest.approx(expected)
    assert area([(1.0, 0.5), (1.0, 0.8)], 0.8) == pytest.approx(0.8)
    assert area([], 1.0) == area([(3.0, 0.0)], 0.0) == 0.0


def test_a_picture_has_every_point_within_its_frame() -> None:
    curves = {"a <b> & c": [(3.0, 0.5), (1.0, 0.9), (2.0, 0.8)], "alone": [(1.0, 0.95)]}
    root = ElementTree.fromstring(picture(curves, title="T", x="tokens", y="accuracy"))
    name = "{http://www.w3.org/2000/svg}"
    spots = [(float(c.get("cx", 0)), float(c.get("cy", 0))) for c in root.iter(f"{name}circle")]
    assert len(spots) == 4
    assert all(60 <= x <= 600 and 40 <= y <= 430 for x, y in spots)
    lines = [line.get("points", "").split() for line in root.iter(f"{name}polyline")]
    assert [len(line) for line in lines] == [3, 1]
    across = [float(spot.split(",")[0]) for spot in lines[0]]
    assert across == sorted(across)
    assert "a <b> & c" in [text.text for text in root.iter(f"{name}text")]


@pytest.mark.parametrize("points", [[(1.0, 1.0)], [(0.0, 0.0), (1e-3, 1e6)], [(5.0, 0.3)] * 3])
def test_a_picture_of_anything_has_axes(points: list[tuple[float, float]]) -> None:
    root = ElementTree.fromstring(picture({"c": points}, title="", x="", y=""))
    assert len([*root.iter("{http://www.w3.org/2000/svg}path")]) >= 4
