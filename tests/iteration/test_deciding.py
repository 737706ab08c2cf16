"""Many requests are decided at once, each as if it were alone, on any number of threads."""

from __future__ import annotations

import numpy as np
import pytest

from plait.core import registry
from plait.core.params import SamplingParams
from plait.core.sequence import Sequence
from plait.core.window import KVView, Window
from plait.iteration.autoregressive import Planner
from plait.iteration.base import Job, Request
from plait.iteration.deciding import decide
from plait.kernels.plan import Pool
from tests.fakes import BLOCK_TRAITS, CAUSAL_TRAITS, VOCAB

KINDS = [
    SamplingParams(temperature=0.0),
    SamplingParams(temperature=0.0, logprobs=2),
    SamplingParams(top_p=0.7),
    SamplingParams(top_k=4, temperature=2.0),
    SamplingParams(repetition_penalty=1.4, presence_penalty=0.5),
    SamplingParams(logit_bias={3: 4.0}, min_p=0.05),
    SamplingParams(min_tokens=3, max_tokens=9, stop_token_ids=[2]),
]


def jobs_of(decoders: list[object]) -> list[Job]:
    planner = Planner(None, CAUSAL_TRAITS)
    jobs = []
    for i, params in enumerate(KINDS * 3):
        seq = Sequence(i, np.array([4, 5, 6], np.int32), params, limit=40, seed=i)
        rows = np.arange(i % 3, dtype=np.int32)  # some have no logits yet
        window = Window(0, 3, rows, rows + 3)
        request = Request(seq, planner, decoders[i % len(decoders)])  # type: ignore[arg-type]
        jobs.append(Job(request, window, KVView(np.zeros(1, np.int32))))
    return jobs


@pytest.mark.parametrize("threads", [None, 1, 3])
@pytest.mark.parametrize("names", [["sample"], ["sample", "threshold"]])
def test_together_is_alone(names: list[str], threads: int | None) -> None:
    made = [registry.load("decoding", name) for name in names]
    decoders = [module.Decoder(module.Options(), BLOCK_TRAITS) for module in made]
    jobs = jobs_of(decoders)
    random = np.random.default_rng(3)
    logits = [
        (3 * random.normal(size=(len(j.window.rows), VOCAB))).astype(np.float32) for j in jobs
    ]
    logits[4][:] = np.nan
    alone = [decide([job], [rows])[0] for job, rows in zip(jobs, logits, strict=True)]
    for decoder in decoders:
        decoder.threads = threads and Pool(threads)
    together = decide(jobs, logits)
    for one, other in zip(alone, together, strict=True):
        assert type(one) is type(other)
        if isinstance(one, Exception) or isinstance(other, Exception):
            assert str(one) == str(other)
            continue
        assert one.positions.tolist() == other.positions.tolist()
        assert one.tokens.tolist() == other.tokens.tolist()
        assert one.logprobs == other.logprobs
    assert isinstance(together[4], FloatingPointError)
