"""What an adapted SmolLM2 learned, beside the model as it was, on texts that no training prompt began.

    python -m train.evaluate_adapted

Teacher-forced: at k masked positions of each block, how far it is from the causal model (divergence, nats), the negative
log-likelihood of the text, and how many drafted tokens of a wholly masked block the causal model would take. Decoded:
agreement with the causal model's greedy tokens, and tokens per forward (TPF), through Plait.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from plait import LLM, SamplingParams
from train.adapt import ROWS, Ids, at_hidden, causal_at, started, texts
from train.body import Body
from train.evaluate import ROOT
from train.smollm import BLOCK, Source

WAYS = {"one per step": "2", "threshold 0.9": "0.9"}
"""By threshold; above 1 writes the surest token alone."""


def at_each_share(model: Body, teacher: Body, tokens: Ids, starts: Ids) -> list[dict[str, Any]]:
    """A row for each k: the last k positions of every block that lies in the answer are masked."""
    first = -(-starts // BLOCK) * BLOCK
    where = np.arange(ROWS)
    rows = []
    for k in range(1, BLOCK + 1):
        hidden = (where >= first[:, None]) & (where % BLOCK >= BLOCK - k)
        found = at_hidden(model, tokens, hidden).log_softmax(-1)
        wanted = causal_at(teacher, tokens, hidden).log_softmax(-1)
        truth = torch.from_numpy(tokens[hidden])
        rows.append(
            {
                "masked": k,
                "positions": len(truth),
                "divergence": round(
                    float(functional.kl_div(found, wanted, reduction="batchmean", log_target=True)),
                    4,
                ),
                "nll": round(float(functional.nll_loss(found, truth)), 4),
                "right": round(float((found.argmax(-1) == truth).float().mean()), 4),
            }
        )
    drafted = (found.argmax(-1) == truth).numpy().reshape(-1, BLOCK)
    taken = np.cumprod(drafted, 1).sum(1)
    rows[-1]["accepted_per_block"] = round(float(taken.mean()), 3)
    rows[-1]["accepted_counts"] = np.bincount(taken, minlength=BLOCK + 1).tolist()
    return rows


def decoded(folder: Path, tokens: Ids, starts: Ids) -> list[dict[str, Any]]:
    """Agreement: tokens at the same place as the causal model's, and how many before the first other one."""
    asked = [{"prompt_token_ids": t[:s].tolist()} for t, s in zip(tokens, starts, strict=True)]
    params = [
        SamplingParams(temperature=0.0, max_tokens=int(ROWS - s), ignore_eos=True) for s in starts
    ]
    rows = []
    with LLM(model=folder, activations="f32", max_num_seqs=32, threads=1) as llm:
        for label, value in WAYS.items():
            answers = llm.generate(asked, params, decoder="threshold", options={"threshold": value})
            forwards = sum(answer.metrics.num_forwards for answer in answers)
            same = [
                np.array(a.outputs[0].token_ids) == t[s:]
                for a, t, s in zip(answers, tokens, starts, strict=True)
            ]
            before_other = [np.cumprod(line).sum() for line in same]
            rows.append(
                {
                    "decoding": label,
                    "tpf": round(sum(map(len, same)) / forwards, 3),
                    "agreement": round(float(np.concatenate(same).mean()), 4),
                    "same_before_first_other": round(float(np.mean(before_other)), 2),
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--folder", type=Path, default=Path("build/train/adapted"))
    parser.add_argument("--texts", type=int, help="held-out texts (all)")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    args = parser.parse_args()
    args.results.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    source = Source()
    teacher = started(source)
    tokens, starts = texts(args.folder / "held_out.json", held_out=True)
    tokens, starts = tokens[: args.texts], starts[: args.texts]
    record: dict[str, Any] = {
        "model": "smollm2-135m",
        "date": time.strftime("%Y-%m-%d"),
        "block": BLOCK,
        "texts": len(tokens),
        "training_texts": len(texts(args.folder / "train.json", held_out=False)[0]),
    }
    for label in ("before", "adapted"):
        model = started(source)
        if label == "adapted":
            state = torch.load(args.folder / "state.pt", weights_only=True)
            model.load_state_dict(state["mean"], strict=False)
            record |= {name: state[name] for name in ("step", "seconds", "curve")}
        with tempfile.TemporaryDirectory() as folder:
            source.write(model, Path(folder))
            record[label] = {
                "forced": at_each_share(model, teacher, tokens, starts),
                "decoded": decoded(Path(folder), tokens, starts),
            }
        print(label, json.dumps(record[label]), flush=True)
    out = args.results / "adapt-smollm2-135m.json"
    out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
