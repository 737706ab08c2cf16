"""A picture of every table in benchmarks/results: python benchmarks/plot.py (needs the extra `bench`).

Bars: how many times a peer's speed Plait has, the median over the rounds, with the spread of the rounds as a
line. What counts is the shortest bar of a workload, the best peer; marks show the least that it should be and
what it could be. Masked diffusion (diffusion_peers.py) has a bar for each kind of weights that Plait was given, beside
the fastest peer, which computes with floats.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot
from workloads import GOALS, WORKLOADS

pyplot.rcParams |= {
    "svg.fonttype": "none",
    "svg.hashsalt": "plait",
}  # small, and the same every time
RESULTS = Path(__file__).resolve().parent / "results"
COLOURS = {
    "llama.cpp": "#94a3b8",
    "llama.cpp-fa": "#475569",
    "openvino": "#a3b18a",
    "vllm": "#d4b483",
}
WEIGHTS = {"plait-bf16": "#94a3b8", "plait-q4_0": "#475569"}
DIFFUSION_GOALS = {"plait-bf16": (3, 3), "plait-q4_0": (6, 10)}
"""Kind of weights -> the least of the fastest peer's speed, and what it could be."""
FLOOR, STRETCH = "#c2410c", "#15803d"
BAR = 0.8
"""Of the space between two workloads, all bars of one together."""


def draw(record: dict[str, Any], file: Path) -> None:
    """One picture of a model's table."""
    works = {name: record["workloads"][name] for name in WORKLOADS if name in record["workloads"]}
    figure, axis = pyplot.subplots(figsize=(8.5, 1.1 + 0.62 * len(works)), layout="constrained")
    for place, (name, work) in enumerate(works.items()):
        _bars(axis, place, work, COLOURS)
        _goals(axis, place, GOALS[record["model"]][name], BAR)
    axis.set_yticks(range(len(works)), [_label(*item) for item in works.items()])
    _finish(figure, axis, f"{record['model']}, {_machine(works)}", file)


def _finish(figure: Any, axis: Any, title: str, file: Path) -> None:
    """What all pictures have in common."""
    axis.axvline(1, color="#0f172a", linewidth=1)
    axis.set_xlim(left=0)
    axis.set_xlabel("times the peer's speed")
    axis.invert_yaxis()
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_title(title, fontsize=10)
    figure.legend(*_legend(axis), loc="outside lower center", ncols=6, fontsize=8, frameon=False)
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)


def draw_diffusion(record: dict[str, Any], file: Path) -> None:
    """One picture of the methods of masked diffusion."""
    methods = record["methods"]
    figure, axis = pyplot.subplots(figsize=(8.5, 1.1 + 0.8 * len(methods)), layout="constrained")
    for place, method in enumerate(methods.values()):
        _bars(axis, place, method, WEIGHTS)
        for i, (weights, goals) in enumerate(DIFFUSION_GOALS.items()):
            middle = place + BAR * ((i + 0.5) / len(DIFFUSION_GOALS) - 0.5)
            if weights in method["ratio"]:
                _goals(axis, middle, goals, BAR / len(DIFFUSION_GOALS))
    axis.set_yticks(range(len(methods)), [f"{n}\n{m['peer']}" for n, m in methods.items()])
    _finish(figure, axis, f"{record['model']}, {_machine(methods)}", file)


def _bars(axis: Any, place: int, work: dict[str, Any], colours: dict[str, str]) -> None:
    names = [name for name in colours if name in work["ratio"]]
    for i, name in enumerate(names):
        rounds = work["ratios"][name]
        y, ratio = place + BAR * ((i + 0.5) / len(names) - 0.5), work["ratio"][name]
        axis.barh(y, ratio, BAR / len(names) * 0.9, color=colours[name], label=name)
        axis.hlines(y, min(rounds), max(rounds), color="#0f172a", linewidth=0.8)
        axis.text(
            *(max(ratio, *rounds) + 0.04, y, f"{ratio:.2f}"),
            va="center",
            fontsize=7,
            color="#334155",
        )


def _goals(axis: Any, middle: float, goals: tuple[float, float], height: float) -> None:
    marks = zip(goals, (FLOOR, STRETCH), ("floor", "stretch"), strict=True)
    for goal, colour, label in marks:
        low, high = middle - height / 2, middle + height / 2
        axis.vlines(goal, low, high, color=colour, linewidth=2, label=label)


def _label(name: str, work: dict[str, Any]) -> str:
    return f"{name}\n{work['engines']['plait']['median']:,.0f} tok/s"


def _legend(axis: Any) -> tuple[list[Any], list[str]]:
    """Every label once."""
    found = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    return list(found.values()), list(found)


def _machine(works: dict[str, Any]) -> str:
    """Every processor and number of threads that was measured with."""
    found = {f"{w['machine']['processor']}, {w['threads']} threads" for w in works.values()}
    return "; ".join(sorted(found))


def main() -> None:
    for file in sorted(RESULTS.glob("peers-*.json")):
        draw(json.loads(file.read_text()), file.with_suffix(".svg"))
    for file in sorted(RESULTS.glob("diffusion-*.json")):
        record = json.loads(file.read_text())
        if "methods" in record:  # of diffusion_peers.py; the trained models' are tables
            draw_diffusion(record, file.with_suffix(".svg"))


if __name__ == "__main__":
    main()
