"""A picture of every table in benchmarks/results: python benchmarks/plot.py (needs the extra `bench`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

RESULTS = Path(__file__).resolve().parent / "results"
COLOURS = {
    "plait": "#c2410c",
    "llama.cpp": "#94a3b8",
    "llama.cpp-fa": "#64748b",
    "openvino": "#a3b18a",
    "vllm": "#d4c5a0",
}


def draw(record: dict[str, Any], file: Path) -> None:
    """One panel per workload: tokens per second of every engine, the spread of its rounds as a line."""
    works = record["workloads"]
    columns = min(4, len(works))
    lines = -(-len(works) // columns)
    figure, axes = pyplot.subplots(
        lines, columns, figsize=(3.2 * columns, 2.6 * lines), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(works) :]:
        axis.set_visible(False)
    for axis, (name, work) in zip(axes.flat, works.items(), strict=False):
        _panel(axis, name, work)
    figure.suptitle(f"{record['model']}: tokens per second, {_machine(works)}")
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)


def _machine(works: dict[str, Any]) -> str:
    """Every processor and number of threads that was measured with."""
    found = {f"{w['machine']['processor']}, {w['threads']} threads" for w in works.values()}
    return "; ".join(sorted(found))


def _panel(axis: Any, name: str, work: dict[str, Any]) -> None:
    engines = [engine for engine in COLOURS if engine in work["engines"]]
    medians = [work["engines"][engine]["median"] for engine in engines]
    samples = [work["engines"][engine]["samples"] for engine in engines]
    spread = [
        [m - min(s) for m, s in zip(medians, samples, strict=True)],
        [max(s) - m for m, s in zip(medians, samples, strict=True)],
    ]
    bars = axis.barh(
        engines,
        medians,
        xerr=spread,
        color=[COLOURS[engine] for engine in engines],
        ecolor="#1e293b",
    )
    axis.bar_label(bars, fmt="%.0f", padding=6, fontsize=8)
    axis.set_title(f"{name}, context {work['work']['context']}", fontsize=9)
    axis.margins(x=0.25)
    axis.invert_yaxis()
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)


def main() -> None:
    for file in sorted(RESULTS.glob("peers-*.json")):
        draw(json.loads(file.read_text()), file.with_suffix(".svg"))


if __name__ == "__main__":
    main()
