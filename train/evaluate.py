"""The small models of `train/` on held-out items, in many ways of decoding.

    python -m train.evaluate sudoku6 --items 500
    python -m train.evaluate trimode --items 500 --keep

One file per model in benchmarks/results, written anew after every row; --keep leaves the rows that it holds as they
are, which is right as long as the weights are the same.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

from plait import LLM
from train.asking import Rows, Tasks, ask, show
from train.evaluate_sudoku import sudoku_tasks
from train.evaluate_trimode import trimode_tasks

ROOT = Path(__file__).resolve().parent.parent
TASKS = {"sudoku6": sudoku_tasks, "trimode": trimode_tasks}


def run(
    folder: Path, planner: str, threads: int, tasks: Tasks, rows: Rows, write: Callable[[], None]
) -> None:
    """Measure the ways of one planner, for an engine is in one mode at a time, but for those that have a row."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("model", choices=list(TASKS))
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--folder", type=Path, help="of the checkpoint (models/MODEL)")
    parser.add_argument("--threads", type=int, default=0, help="0: as many as are useful")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--keep", action="store_true", help="do not measure again what is there")
    args = parser.parse_args()
    tasks = TASKS[args.model](args.items)
    out = args.results / f"diffusion-{args.model}.json"
    record = json.loads(out.read_text()) if args.keep and out.exists() else {"tasks": {}}
    rows = {task: {row["label"]: row for row in record["tasks"].get(task, [])} for task in tasks}

    def write() -> None:
        found = {
            task: [rows[task][way.label] for way in ways if way.label in rows[task]]
            for task, (_, ways) in tasks.items()
        }
        whole = {**record, "model": args.model, "date": time.strftime("%Y-%m-%d"), "tasks": found}
        out.write_text(json.dumps(whole, indent=1) + "\n")

    folder = args.folder or ROOT / "models" / args.model
    for planner in ("autoregressive", "block", "canvas"):
        run(folder, planner, args.threads, tasks, rows, write)


if __name__ == "__main__":
    main()
