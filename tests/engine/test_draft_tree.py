"""A tree of drafts against a chain of the same number of tokens, with real models: Qwen2.5-Coder 0.5B for 1.5B."""

from __future__ import annotations

import pytest

from plait import LLM, SamplingParams

PROMPTS = [
    'def has_close_elements(numbers: list[float], threshold: float) -> bool:\n    """',
    "def separate_paren_groups(paren_string: str) -> list[str]:\n",
    "import re\n\n\ndef count_vowels(text: str) -> int:\n",
    "# Read a CSV file and print the mean of every column.\nimport csv\n",
]
WIDTH = "6"


@pytest.mark.large
def test_a_tree_gives_at_least_as_much_as_a_chain() -> None:
    params = SamplingParams(max_tokens=64, temperature=0.0, ignore_eos=True)
    model, draft = "qwen2.5-coder-1.5b", "draft:qwen2.5-coder-0.5b"
    answers, per_forward = [], []
    with LLM(model, proposer=draft, max_model_len=1024) as llm:
        for branches in (0, 1, 2):
            options = {"width": WIDTH, "branches": str(branches)} if branches else {}
            proposer = "draft" if branches else "none"
            outputs = llm.generate(PROMPTS, params, proposer=proposer, options=options)
            answers.append([output.outputs[0].token_ids for output in outputs])
            forwards = sum(output.metrics.num_forwards for output in outputs)
            accepted = sum(output.metrics.num_accepted for output in outputs)
            per_forward.append(accepted / forwards)
    print(f"accepted per forward: chain {per_forward[1]:.3f}, tree {per_forward[2]:.3f}")
    assert answers[0] == answers[1] == answers[2]
    assert per_forward[2] >= per_forward[1] > 1
