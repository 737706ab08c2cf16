"""The command as a person types it, with the smallest real model."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from plait import LLM, SamplingParams

MODEL = "smollm2-135m"
PROMPT = "Name three colours."


def plait(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-m", "plait", *arguments],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )


@pytest.fixture(scope="module")
def expected() -> tuple[str, list[int]]:
    """Greedy text and tokens, by the Python API."""
    with LLM(MODEL) as llm:
        messages = [{"role": "user", "content": PROMPT}]
        (output,) = llm.chat(messages, SamplingParams(temperature=0.0, max_tokens=12))
    return output.outputs[0].text, output.outputs[0].token_ids


def test_run_prints_the_answer_and_nothing_else(expected: tuple[str, list[int]]) -> None:
    done = plait("run", MODEL, PROMPT, "-t", "0", "-n", "12")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == expected[0].rstrip("\n") + "\n"


def test_the_record_has_the_same_tokens_from_a_pipe(expected: tuple[str, list[int]]) -> None:
    done = plait("run", "-t", "0", "-n", "12", "--json", "--cache", "none", stdin=PROMPT)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["outputs"][0]["token_ids"] == expected[1]
    assert record["timings"]["tokens"] == 12
    assert record["timings"]["forwards"] == 12


def test_chat_through_a_pipe(expected: tuple[str, list[int]]) -> None:
    done = plait("chat", MODEL, "-t", "0", "-n", "12", stdin=f"{PROMPT}\n/bye\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout == expected[0].rstrip("\n") + "\n"


def test_a_prompt_that_is_too_long_is_refused_with_both_numbers() -> None:
    done = plait("run", MODEL, "--raw", "--ctx", "64", stdin="word " * 500)
    assert (done.returncode, done.stdout) == (2, "")
    assert "501 tokens" in done.stderr or "500 tokens" in done.stderr
    assert "64" in done.stderr
    assert len(done.stderr.splitlines()) <= 2
