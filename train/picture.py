"""The losses of a run as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot


def draw(curve: list[dict[str, Any]], title: str, path: Path) -> None:
    """curve: as Run keeps it, an entry for every so many steps."""
    figure, axes = pyplot.subplots(figsize=(6, 3.5))
    for kind in sorted({kind for entry in curve for kind in entry["loss"]}):
        points = [(e["step"], e["loss"][kind]) for e in curve if kind in e["loss"]]
        axes.plot(*zip(*points, strict=True), label=kind)
    axes.set(xlabel="step", ylabel="loss, nats per masked token", yscale="log", title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
