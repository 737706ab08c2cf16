"""A picture of curves, as SVG: axes, lines with their points, a legend. Nothing is needed to draw it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import ceil, floor, log10

Curve = Sequence[tuple[float, float]]
WIDTH, HEIGHT, LEFT, TOP, BOTTOM, LEGEND = 900, 480, 60, 40, 50, 300
COLOURS = ("#2563eb", "#c2410c", "#15803d", "#7e22ce", "#0e7490", "#b45309", "#be185d", "#475569")


def picture(curves: Mapping[str, Curve], *, title: str, x: str, y: str) -> str:
    """curves: name -> points (x, y), of which there is one at least. Drawn in the order of x."""
    points = [point for curve in curves.values() for point in curve]
    xs, ys = (_ticks([point[axis] for point in points]) for axis in (0, 1))
    frame = _Frame((xs[0], xs[-1]), (ys[0], ys[-1]))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        _text(LEFT, TOP / 2, title, size=14),
        *(_grid_x(frame, one) for one in xs),
        *(_grid_y(frame, one) for one in ys),
        _text(frame.right, HEIGHT - 12, x, anchor="end"),
        _text(LEFT, TOP - 6, y),
        *(_curve(frame, place, *item) for place, item in enumerate(curves.items())),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


class _Frame:
    """From values to places."""

    right = WIDTH - LEGEND

    def __init__(self, x: tuple[float, float], y: tuple[float, float]) -> None:
        self.x_range, self.y_range = x, y

    def place(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self.x_range[0]) / (self.x_range[1] - self.x_range[0])
        up = (y - self.y_range[0]) / (self.y_range[1] - self.y_range[0])
        return (
            round(LEFT + across * (self.right - LEFT), 1),
            round(HEIGHT - BOTTOM - up * (HEIGHT - BOTTOM - TOP), 1),
        )


def _ticks(values: Sequence[float]) -> list[float]:
    """Round numbers from below the least value to above the largest, a handful."""
    low, high = min(values), max(values)
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    step: float = 10 ** floor(log10(high - low))
    step *= next(one for one in (0.2, 0.5, 1.0, 2.0) if (high - low) / (one * step) <= 6)
    first, last = floor(low / step), ceil(high / step)
    return [round(number * step, 9) for number in range(first, last + 1)]


def _curve(frame: _Frame, place: int, name: str, curve: Curve) -> str:
    colour = COLOURS[place % len(COLOURS)]
    spots = [frame.place(*point) for point in sorted(curve)]
    line = " ".join(f"{across},{down}" for across, down in spots)
    dashes = ' stroke-dasharray="5 4"' if place // len(COLOURS) % 2 else ""
    dots = "".join(
        f'<circle cx="{across}" cy="{down}" r="3.5" fill="{colour}"/>' for across, down in spots
    )
    height = TOP + 18 * place
    swatch = (
        f'<rect x="{frame.right + 20}" y="{height - 9}" width="10" height="10" fill="{colour}"/>'
    )
    path = f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"{dashes}/>'
    return path + dots + swatch + _text(frame.right + 36, height, name)


def _grid_x(frame: _Frame, value: float) -> str:
    across, _ = frame.place(value, frame.y_range[0])
    line = f'<path d="M{across} {TOP}V{HEIGHT - BOTTOM}" stroke="#e2e8f0"/>'
    return line + _text(across, HEIGHT - BOTTOM + 16, f"{value:g}", anchor="middle")


def _grid_y(frame: _Frame, value: float) -> str:
    _, down = frame.place(frame.x_range[0], value)
    line = f'<path d="M{LEFT} {down}H{frame.right}" stroke="#e2e8f0"/>'
    return line + _text(LEFT - 6, down + 4, f"{value:g}", anchor="end")


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="{size}">{escape(text)}</text>'
