"""Programs of language models: prompts with typed holes in ordinary async Python, in the spirit of LMQL (arXiv:2212.06094).

    from plait import LLM
    from plait.programs.lm import Prompt, run

    async def answer(p: Prompt, question: str) -> str:
        p += f"Q: {question}\\nA: Let's think step by step."
        await p.gen(stops_at="\\n", max_tokens=80)
        p += "So the answer (yes or no) is "
        return await p.select(["yes", "no"])

    print(run(LLM(), answer, "Is the sea salt?").value)

docs/programs.md is the manual.
"""

from plait.programs.lm.beam import beam
from plait.programs.lm.constraints import (
    Constraint,
    characters,
    contains,
    integer,
    number,
    one_of,
    regex,
    stops_at,
    stops_before,
    tokens,
    words,
)
from plait.programs.lm.decoders import argmax, best_of, sample
from plait.programs.lm.distribution import Distribution
from plait.programs.lm.ledger import Ledger
from plait.programs.lm.prompt import Prompt
from plait.programs.lm.running import Run, run, run_async, run_many

__all__ = [
    "Constraint",
    "Distribution",
    "Ledger",
    "Prompt",
    "Run",
    "argmax",
    "beam",
    "best_of",
    "characters",
    "contains",
    "integer",
    "number",
    "one_of",
    "regex",
    "run",
    "run_async",
    "run_many",
    "sample",
    "stops_at",
    "stops_before",
    "tokens",
    "words",
]
