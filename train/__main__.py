"""python -m train sudoku|trimode|trimode-second: trains, or goes on with what is there; `--export FOLDER` writes the checkpoint."""

from __future__ import annotations

import argparse
import functools
from pathlib import Path

import torch

from train import export, losses, sudoku, trimode
from train.body import Shape
from train.recipe import Recipe, Run, continued

CONTEXT = 256
FIRST = Path("build/train/trimode")
"""The run that `trimode-second` goes on from."""
SECOND = trimode.Course(
    modes=(0.25, 0.1, 0.65),
    records=0.6,
    lists=(0.4, 0.2, 0.2, 0.2),
    copies=8.0,
    stretches=0.5,
)
"""More of what the first course left unlearned: sums from left to right, ids of which the other half is masked."""
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
        start=functools.partial(continued, run=FIRST),
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
        before = FIRST if name == "trimode-second" else None
        export.export(run, folder, trimode.ALPHABET, config, export.LLAMA, before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=list(RECIPES))
    parser.add_argument("--folder", type=Path, help="of the run (build/train/NAME)")
    parser.add_argument("--until", type=int, help="stop at this step")
    parser.add_argument("--export", type=Path, help="write what is there as a checkpoint")
    args = parser.parse_args()
    torch.set_num_threads(1)
    folder = args.folder or Path("build/train") / args.name
    if args.export:
        write(args.name, folder, args.export)
        return
    Run(RECIPES[args.name], folder).train(args.until)


if __name__ == "__main__":
    main()
