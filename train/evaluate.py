"""The small models of `train/` on held-out items, in many ways of decoding.

    python -m train.evaluate sudoku6 --items 500
    python -m train.evaluate trimode --items 500 --keep

One file per model in benchmarks/results, written anew after every row; --keep leaves the rows that it holds as they
are, which is right as long as the weights are the same. Besides the rows: decoders at equal accuracy
(`equal_accuracy.py`), a vote over block schedules (`schedules.py`, of sudoku6), how probable answers are
(`likelihoods.py`, of trimode). --write-items FOLDER writes the items as files for
`plait bench diffusion`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from plait import LLM
from train import equal_accuracy, likelihoods, schedules
from train.asking import Rows, Tasks, ask, show, write_items
from train.evaluate_sudoku import sudoku_tasks
from train.evaluate_trimode import trimode_tasks

ROOT = Path(__file__).resolve().parent.parent
TASKS = {"sudoku6": sudoku_tasks, "trimode": trimode_tasks}
PARTS = ("rows", "equal", "vote", "likelihood")


def run(
    folder: Path, planner: str, threads: int, tasks: Tasks, rows: Rows, write: Callable[[], None]
) -> None:
    """Measure the ways of one planner, in an engine made for it, but for those that have a row."""
    missing = [
        (task, asked, way)
        for task, (asked, ways) in tasks.items()
        for way in ways
        if way.planner == planner and way.label not in rows[task]
    ]
    if not missing:
        return
    llm = LLM(model=folder, planner=planner, max_num_seqs=64, threads=threads)
    for task, asked, way in missing:
        rows[task][way.label] = ask(llm, asked, way)
        show(task, rows[task][way.label])
        write()
    llm.close()


def equal(folder: Path, model: str, threads: int, tasks: Tasks) -> dict[str, Any]:
    """Hierarchical and credit against the threshold; where answers are drawn, if there are many right ones."""
    task, size, temperature = ("sudoku", "42", 0.0) if model == "sudoku6" else ("json", "64", 1.0)
    with LLM(model=folder, planner="canvas", max_num_seqs=64, threads=threads) as llm:
        found = equal_accuracy.compare(llm, tasks[task][0], {"block_size": size}, temperature)
    return {"task": task, **found}


def vote(folder: Path, threads: int, tasks: Tasks) -> dict[str, Any]:
    """HEX, at a threshold where no schedule is good (chosen with other puzzles than these)."""
    with LLM(model=folder, planner="canvas", max_num_seqs=64, threads=threads) as llm:
        return schedules.compare(llm, tasks["sudoku"][0], (42, 28, 21, 14, 7), {"threshold": "0.8"})


def main() -> None:
    args = arguments()
    tasks = TASKS[args.model](args.items)
    if args.write_items:
        write_items(tasks, args.write_items)
        return
    folder = args.folder or ROOT / "models" / args.model
    args.results.mkdir(parents=True, exist_ok=True)
    out = args.results / f"diffusion-{args.model}.json"
    record = json.loads(out.read_text()) if args.keep and out.exists() else {}
    kept = record.get("tasks", {})
    rows = {task: {row["label"]: row for row in kept.get(task, [])} for task in tasks}

    def write(**parts: Any) -> None:
        record.update(model=args.model, date=time.strftime("%Y-%m-%d"), **parts)
        out.write_text(json.dumps(record, indent=1) + "\n")

    def write_rows() -> None:
        found = {
            task: [rows[task][way.label] for way in ways if way.label in rows[task]]
            for task, (_, ways) in tasks.items()
        }
        write(tasks=found)

    if "rows" in args.parts:
        for planner in ("autoregressive", "block", "canvas"):
            run(folder, planner, args.threads, tasks, rows, write_rows)
    if "equal" in args.parts:
        write(equal_accuracy=equal(folder, args.model, args.threads, tasks))
    if "vote" in args.parts and args.model == "sudoku6":
        write(vote=vote(folder, args.threads, tasks))
    if "likelihood" in args.parts and args.model == "trimode":
        write(likelihood=likelihoods.compare(folder, args.threads, args.items))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("model", choices=list(TASKS))
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--folder", type=Path, help="of the checkpoint (models/MODEL)")
    parser.add_argument("--threads", type=int, default=0, help="0: as many as are useful")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--keep", action="store_true", help="do not measure again what is there")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--write-items", type=Path, help="only write files for the bench, here")
    return parser.parse_args()


if __name__ == "__main__":
    main()
