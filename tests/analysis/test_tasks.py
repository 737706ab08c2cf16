"""Files of items: what is read, what is refused, what counts as solved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from plait.analysis.tasks import GRADERS, Item, read
from plait.core.errors import UserError

GOOD: dict[str, Any] = {"prompt": "1+1=", "answer": "2", "max_tokens": 3}


def test_items_are_read_in_their_order(tmp_path: Path) -> None:
    file = tmp_path / "task.jsonl"
    lines = [GOOD, {**GOOD, "answer": "3", "grader": "json"}, {**GOOD, "prompt": "é"}]
    file.write_text("\n\n".join(map(json.dumps, lines)) + "\n")
    assert read(file) == [Item(**line) for line in lines]
    assert read(file, 2) == read(file)[:2]
    file.write_text('{"prompt": "a__d", "answer": "bcd", "infill": [[1, 3]]}')
    assert read(file) == [Item("a__d", "bcd", infill=((1, 3),))]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no item"),
        ("{", "line 1 is not JSON"),
        ("[" * 100_000, "line 1 is not JSON"),
        ("[1]", "line 1 is no item"),
        (json.dumps(GOOD) + '\n{"prompt": "a", "answer": "b"}', "line 2 has no max_tokens"),
        (json.dumps({**GOOD, "hint": 1}), "no item"),
        (json.dumps({**GOOD, "prompt": 1}), "prompt is no text"),
        (json.dumps({**GOOD, "max_tokens": 0}), "max_tokens is 0"),
        (json.dumps({**GOOD, "max_tokens": True}), "max_tokens is True"),
        (json.dumps({**GOOD, "grader": "taste"}), "grader 'taste' is not known"),
        (json.dumps({**GOOD, "grader": "pattern", "answer": "(a"}), "line 1: answer is no pattern"),
        (json.dumps({**GOOD, "infill": [[1, 2]]}), "max_tokens and infill"),
        ('{"prompt": "a", "answer": "b", "infill": [[1, 2], [1, 3]]}', "line 1: infill"),
        ('{"prompt": "a", "answer": "b", "infill": [[1, 2, 3]]}', "line 1: infill"),
        ('{"prompt": "a", "answer": "b", "infill": 7}', "line 1: infill"),
        ("\udcff", "is no task"),
    ],
)
def test_what_is_no_task_is_refused_by_the_line(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "task.jsonl"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=words):
        read(file)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no task"):
        read(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    ("grader", "answer", "right", "wrong"),
    [
        ("exact", "ab", " ab\n", "a b"),
        ("permutation", "abca", "caab ", "abcc"),
        ("json", '{"a": 1, "b": [2]}', '{"b":[2],"a":1}', '{"a": 1'),
        ("pattern", r"(\w+) is \1", " ab is ab\n", "ab is ab."),
        ("pattern", r"(\w+) is \1", "cd is cd", "cd is ab"),
    ],
)
def test_graders(grader: str, answer: str, right: str, wrong: str) -> None:
    item = Item("", answer, 5, grader)
    assert item.is_solved(right)
    assert not item.is_solved(wrong)
    assert grader in GRADERS
