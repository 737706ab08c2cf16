"""python -m train sudoku|trimode|trimode-second|trimode-third: trains, or goes on with what is there; `--export FOLDER` writes the checkpoint."""

from __future__ import annotations

import argparse
import functools
from pathlib import Path

import torch

from train import export, losses, sudoku, trimode
from train.body import Shape
from train.recipe import Recipe, Run, continued

CONTEXT = 256
BEFORE = {"trimode-second": "trimode", "trimode-third": "trimode-second"}
"""A course and the run that it goes on from, in the folder RUNS."""
RUNS = Path("build/train")
SECOND = trimode.Course(
    modes=(0.25, 0.1, 0.65),
    records=0.6,
    lists=(0.4, 0.2, 0.2, 0.2),
    copies=8.0,
    stretches=0.5,
)
"""More of what the first course left unlearned: sums from left to right, ids of which the other half is masked."""
THIRD = trimode.Course(
    modes=(0.7, 0.1, 0.2),
    records=0.2,
    lists=(0.85, 0.05, 0.05, 0.05),
    copies=8.0,
    stretches=0.5,
)
"""Sums from left to right, whose first digit needs all carries; enough of the rest that it stays."""
RECIPES = {
    "sudoku": Recipe(
        Shape(len(sudoku.ALPHABET)),
        functools.partial(losses.sudoku_loss, seed=1, size=64),
        steps=2000,
    ),
    "trimode": Recipe(
        Shape(len(trimode.ALPHABET)),
        functools.partial(losses.trimode_loss, size=64),
        steps=4000,
        rate=4e-3,
        muon=True,
    ),
    "trimode-second": Recipe(
        Shape(len(trimode.ALPHABET)),
        functools.partial(losses.trimode_loss, size=64, course=SECOND),
        steps=1400,
        rate=4e-3,
        decay=0.28,
        seed=2,
        every=50,
        muon=True,
        start=functools.partial(continued, run=RUNS / BEFORE["trimode-second"]),
    ),
    "trimode-third": Recipe(
        Shape(len(trimode.ALPHABET)),
        functools.partial(losses.trimode_loss, size=64, course=THIRD),
        steps=1200,
        rate=2e-3,
        decay=0.7,
        seed=3,
        every=50,
        muon=True,
        start=functools.partial(continued, run=RUNS / BEFORE["trimode-third"]),
    ),
}


def write(name: str, run: Path, folder: Path) -> None:
    shape = RECIPES[name].shape
    if name == "sudoku":
        config = export.llada_config(shape, CONTEXT)
        export.export(run, folder, sudoku.ALPHABET, config, export.LLADA)
    else:
        config = {**export.llama_config(shape, CONTEXT), "model_type": "trimode"}
        config["block_size"] = trimode.BLOCK
        export.export(run, folder, trimode.ALPHABET, config, export.LLAMA, courses_before(name))


def courses_before(name: str) -> list[Path]:
    """The folders of the runs that led to this one, the first one first."""
    before = BEFORE.get(name)
    return [*courses_before(before), RUNS / before] if before else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=list(RECIPES))
    parser.add_argument("--folder", type=Path, help="of the run (build/train/NAME)")
    parser.add_argument("--until", type=int, help="stop at this step")
    parser.add_argument("--export", type=Path, help="write what is there as a checkpoint")
    args = parser.parse_args()
    torch.set_num_threads(1)
    folder = args.folder or RUNS / args.name
    if args.export:
        write(args.name, folder, args.export)
        return
    Run(RECIPES[args.name], folder).train(args.until)


if __name__ == "__main__":
    main()
