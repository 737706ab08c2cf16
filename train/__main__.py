"""python -m train sudoku|trimode [--folder FOLDER] [--until STEP]: trains, or goes on with what is there."""

from __future__ import annotations

import argparse
import functools
from pathlib import Path

import torch

from train import sudoku, trimode
from train.body import Shape
from train.recipe import Recipe, Run

RECIPES = {
    "sudoku": Recipe(
        Shape(len(sudoku.ALPHABET)), functools.partial(sudoku.loss, seed=1, batch=64), steps=4500
    ),
    "trimode": Recipe(
        Shape(len(trimode.ALPHABET)), functools.partial(trimode.loss, size=64), steps=4000
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=list(RECIPES))
    parser.add_argument("--folder", type=Path, help="of the run (build/train/NAME)")
    parser.add_argument("--until", type=int, help="stop at this step")
    args = parser.parse_args()
    torch.set_num_threads(1)
    run = Run(RECIPES[args.name], args.folder or Path("build/train") / args.name)
    run.train(args.until)


if __name__ == "__main__":
    main()
