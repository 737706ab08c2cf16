"""The small models of `train/` on held-out items, in many ways of decoding.

    python -m train.evaluate sudoku6 --items 500
    python -m train.evaluate trimode --items 500

One file per model in benchmarks/results.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from plait import LLM
from train.asking import ask, show
from train.evaluate_sudoku import sudoku_tasks
from train.evaluate_trimode import trimode_tasks

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("model", choices=("sudoku6", "trimode"))
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--folder", type=Path, help="of the checkpoint (models/MODEL)")
    parser.add_argument("--threads", type=int, default=0, help="0: as many as are useful")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    args = parser.parse_args()
    folder = args.folder or ROOT / "models" / args.model
    tasks = sudoku_tasks(args.items) if args.model == "sudoku6" else trimode_tasks(args.items)
    record: dict[str, Any] = {"model": args.model, "date": time.strftime("%Y-%m-%d"), "tasks": {}}
    for planner in ("autoregressive", "block", "canvas"):  # the engine is in one mode at a time
        own = [
            (task, asked, way)
            for task, (asked, ways) in tasks.items()
            for way in ways
            if way.planner == planner
        ]
        if not own:
            continue
        llm = LLM(model=folder, planner=planner, max_num_seqs=64, threads=args.threads)
        for task, asked, way in own:
            row = ask(llm, asked, way)
            record["tasks"].setdefault(task, []).append(row)
            show(task, row)
            out = args.results / f"diffusion-{args.model}.json"
            out.write_text(json.dumps(record, indent=1) + "\n")
        llm.close()


if __name__ == "__main__":
    main()
