"""SmolLM2-135M learns to fill blocks from its own causal distributions, on texts that it wrote itself.

    python -m train.adapt --until 24 --export build/adapted

Trained are the attention matrices and the embedding of the mask; each step compares the distributions at masked
positions with those of the frozen causal model (Kullback-Leibler). Rows decide the position after them, as before: the
first of a block follows from the clean block before it (arXiv:2509.26328).
"""

from __future__ import annotations

import argparse
import functools
import json
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from plait import LLM, SamplingParams
from train.body import Body
from train.losses import hide, noisy_and_clean
from train.recipe import Recipe, Run
from train.smollm import BLOCK, NAME, Source

Ids = NDArray[np.int64]
ROWS, HELD_OUT = 64, 8
"""Tokens of a text, its prompt among them; one of so many prompts is never trained."""
OPENINGS = (
    "The history of {} begins",
    "Most people think of {} as",
    "A short lesson about {}:",
    "If you want to learn about {}, first",
    "There are three reasons why {}",
    "Once upon a time, somebody who loved {}",
    "The most important fact about {} is",
    "Yesterday I read an article on {}. It",
)
TOPICS = [
    "bread",
    "bridges",
    "gardens",
    "the moon",
    "trains",
    "chess",
    "rivers",
    "music",
    "coffee",
    "whales",
    "volcanoes",
    "libraries",
    "bicycles",
    "money",
    "medicine",
    "painting",
    "computers",
    "winter",
    "the ocean",
    "schools",
    "glass",
    "cotton",
    "maps",
    "clocks",
    "cities",
    "mountains",
    "insects",
    "rain",
    "football",
    "dreams",
    "salt",
    "paper",
    "horses",
    "telescopes",
    "language",
    "farming",
    "bees",
    "ships",
    "cooking",
    "electricity",
]


def prompts(*, held_out: bool) -> list[str]:
    texts = [opening.format(topic) for topic in TOPICS for opening in OPENINGS]
    return [text for text in texts if (zlib.crc32(text.encode()) % HELD_OUT == 0) == held_out]


def write_texts(asked: list[str], temperature: float) -> tuple[Ids, Ids]:
    """(tokens [n, ROWS], where the answer starts [n]), written by the model; texts that end earlier are left out."""
    with LLM(model=NAME, activations="f32", max_num_seqs=64, threads=1) as llm:
        params = SamplingParams(temperature=temperature, max_tokens=ROWS, seed=1)
        found = llm.generate(asked, params)
    whole = [(o.prompt_token_ids, o.outputs[0].token_ids) for o in found]
    kept = [(len(p), [*p, *a][:ROWS]) for p, a in whole if len(p) + len(a) >= ROWS]
    return np.array([text for _, text in kept], np.int64), np.array([start for start, _ in kept])


def texts(file: Path, *, held_out: bool, most: int | None = None) -> tuple[Ids, Ids]:
    """From the file, or written there now: at temperature 1 for training, greedily where held out. most: prompts."""
    if not file.exists():
        tokens, starts = write_texts(prompts(held_out=held_out)[:most], 0.0 if held_out else 1.0)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"tokens": tokens.tolist(), "starts": starts.tolist()}))
    found = json.loads(file.read_text())
    return np.array(found["tokens"], np.int64), np.array(found["starts"])


def noised(tokens: Ids, hidden: NDArray[np.bool_], mask: int) -> Tensor:
    """[noisy | clean], int64 [n, 2 rows]."""
    return torch.from_numpy(np.concatenate([np.where(hidden, mask, tokens), tokens], 1))


def sources(rows: int) -> Ids:
    """For each position the row of [noisy | clean] that decides it; the first position has none and gets the last."""
    where = np.arange(rows)
    return np.where(where % BLOCK == 0, rows, 0) + where - 1


def at_hidden(model: Body, tokens: Ids, hidden: NDArray[np.bool_]) -> Tensor:
    """Logits [hidden positions, vocabulary]."""
    rows = tokens.shape[1]
    fed = noised(tokens, hidden, model.shape.mask)
    states = model.states(fed, torch.arange(rows).repeat(2), noisy_and_clean(rows, BLOCK))
    line, place = np.nonzero(hidden)
    logits: Tensor = model.output(states[line, sources(rows)[place]])
    return logits


def causal_at(model: Body, tokens: Ids, hidden: NDArray[np.bool_]) -> Tensor:
    """The next-token logits for the same positions."""
    rows = tokens.shape[1]
    sees = torch.ones(rows, rows).tril().bool()[None, None]
    states = model.states(torch.from_numpy(tokens), torch.arange(rows), sees)
    line, place = np.nonzero(hidden)
    logits: Tensor = model.output(states[line, place - 1])
    return logits


def hidden_in_blocks(
    generator: np.random.Generator, shape: tuple[int, ...], starts: Ids
) -> NDArray[np.bool_]:
    """Every block has a share of its own; before `starts` nothing is masked."""
    is_open = np.arange(shape[1]) >= starts[:, None]
    return hide(generator, is_open.reshape(-1, BLOCK)).reshape(shape)


def loss(
    model: Body,
    generator: np.random.Generator,
    *,
    teacher: Body,
    written: tuple[Ids, Ids],
    size: int,
) -> tuple[Tensor, str]:
    chosen = generator.choice(len(written[0]), size, replace=False)
    tokens, starts = written[0][chosen], written[1][chosen]
    hidden = hidden_in_blocks(generator, tokens.shape, starts)
    with torch.no_grad():
        wanted = causal_at(teacher, tokens, hidden).log_softmax(-1)
    found = at_hidden(model, tokens, hidden).log_softmax(-1)
    return functional.kl_div(found, wanted, reduction="batchmean", log_target=True), "divergence"


def started(source: Source) -> Body:
    body = Body(source.shape)
    source.fill(body)
    body.requires_grad_(False)
    return body


def recipe(source: Source, folder: Path, steps: int, most: int | None = None) -> Recipe:
    written = texts(folder / "train.json", held_out=False, most=most)
    own = functools.partial(loss, teacher=started(source), written=written, size=4)
    return Recipe(
        source.shape, own, steps, rate=3e-4, warm_up=3, mean=0.8, every=2, start=source.fill
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--folder", type=Path, default=Path("build/train/adapted"))
    parser.add_argument("--steps", type=int, default=100, help="of the whole schedule")
    parser.add_argument(
        "--texts", type=int, help="prompts to write texts from (all that are not held out)"
    )
    parser.add_argument("--until", type=int, help="stop at this step")
    parser.add_argument("--export", type=Path, help="then write a checkpoint (270 MB)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    source = Source()
    run = Run(recipe(source, args.folder, args.steps, args.texts), args.folder)
    run.train(args.until)
    if args.export:
        run.model.load_state_dict(run.mean, strict=False)
        source.write(run.model, args.export)


if __name__ == "__main__":
    main()
