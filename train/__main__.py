"""python -m train sudoku|trimode: trains, or goes on with what is there; `--export FOLDER` writes the checkpoint."""

from __future__ import annotations

import argparse
import functools
from pathlib import Path

import torch

from train import export, losses, sudoku, trimode
from train.body import Shape
from train.recipe import Recipe, Run

CONTEXT = 256
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
}


def write(name: str, run: Path, folder: Path) -> None:
    shape = RECIPES[name].shape
    if name == "sudoku":
        config = export.llada_config(shape, CONTEXT)
        export.export(run, folder, sudoku.ALPHABET, config, export.LLADA)
    else:
        config = {**export.llama_config(shape, CONTEXT), "model_type": "trimode"}
        config["block_size"] = trimode.BLOCK
        export.export(run, folder, trimode.ALPHABET, config, export.LLAMA)


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
