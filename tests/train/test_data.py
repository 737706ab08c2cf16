"""Puzzles and tasks: right by construction, and what is held out is never trained."""

from __future__ import annotations

import json

import numpy as np
import pytest

from train import evaluate_sudoku, evaluate_trimode, sudoku, trimode

COUNT = 40


def drawn(*, held_out: bool) -> tuple[np.ndarray, np.ndarray]:
    puzzles, solved = sudoku.pool(3, COUNT)
    assert len(puzzles) == COUNT
    cells, digits = sudoku.symmetries(np.random.default_rng(1), COUNT)
    turned = [
        np.take_along_axis(digits, np.take_along_axis(part, cells, 1), 1)
        for part in (puzzles, solved)
    ]
    kept = (sudoku.classes(turned[1]) == 0) == held_out
    return turned[0][kept], turned[1][kept]


def test_every_puzzle_has_its_solution_and_no_other() -> None:
    for puzzle, solution in zip(*drawn(held_out=False), strict=True):
        assert sudoku.solutions(puzzle.tolist(), 2, None) == [solution.tolist()]
        assert all(set(solution[unit]) == {1, 2, 3, 4, 5, 6} for unit in sudoku.UNITS)
        assert sudoku.LEAST_GIVENS <= (puzzle > 0).sum() <= sudoku.MOST_GIVENS


def test_the_sides_of_the_division_share_no_solution() -> None:
    sides = []
    for held_out in (False, True):
        _, solved = sudoku.draw(
            np.random.default_rng(5), 300, sudoku.pool(3, COUNT), held_out=held_out
        )
        assert len(solved) == 300
        sides.append({grid.tobytes() for grid in solved})
    assert not sides[0] & sides[1]


def test_a_puzzle_is_text_of_one_token_a_character() -> None:
    grid = np.zeros(sudoku.CELLS, np.int64)
    grid[[0, 35]] = 5, 6
    text = sudoku.text(grid)
    assert text == "a5?????b??????c??????d??????e??????f?????6"
    assert evaluate_sudoku.spans(grid)[0] == (2, 7)
    assert evaluate_sudoku.spans(grid)[-1] == (36, 41)
    assert sum(end - start for start, end in evaluate_sudoku.spans(grid)) == 34


def test_a_board_is_valid_only_with_its_clues_and_all_digits() -> None:
    solution = np.array(sudoku.solutions([0] * 36, 1, None)[0])
    grid = np.where(np.arange(36) % 6 == 0, solution, 0)
    prompt, where = sudoku.text(grid), evaluate_sudoku.spans(grid)
    answer = sudoku.text(solution)[where[0][0] :]
    assert evaluate_sudoku.is_valid(prompt, where, answer)
    assert not evaluate_sudoku.is_valid(prompt, where, answer[:-1])
    assert not evaluate_sudoku.is_valid(prompt, where, answer[:-1] + "?")
    moved = answer.translate(str.maketrans("12", "21"))  # a right grid, but not with these clues
    assert not evaluate_sudoku.is_valid(prompt, where, moved)


@pytest.mark.parametrize("task", trimode.TASKS)
def test_an_answer_is_right_by_its_own_grader_and_a_damaged_one_is_not(task: str) -> None:
    generator = np.random.default_rng(2)
    for _ in range(50):
        prompt, answer = trimode.item(task, generator, held_out=True)
        item = evaluate_trimode.item(task, prompt, answer)
        assert item.is_solved(answer + "\n")
        assert not item.is_solved(answer[:-1])
        assert len(trimode.ids(prompt + answer)) == len(prompt) + len(answer)


def test_a_record_says_its_id_twice() -> None:
    _, answer = trimode.item("json", np.random.default_rng(3), held_out=True)
    found = json.loads(answer)
    assert found["id"] == found["ref"]
    item = evaluate_trimode.item("json", "j=", answer)
    assert item.is_solved(answer.replace(found["id"], "abcd"))
    assert not item.is_solved(answer.replace(f'"ref":"{found["ref"]}"', '"ref":"zzzz"'))


def test_no_held_out_prompt_is_in_a_training_batch() -> None:
    for step in range(6):
        course = trimode.Course(lists=(0.4, 0.2, 0.2, 0.2) if step % 2 else None)
        tokens, starts, ends = trimode.batch(np.random.default_rng((1, step)), 32, course)
        assert tokens.shape[1] % trimode.BLOCK == 0
        for row, start, end in zip(tokens, starts, ends, strict=True):
            prompt = "".join(trimode.ALPHABET[token] for token in row[:start])
            task = {"r": "reverse", "s": "sort", "m": "shuffle", "j": "json"}.get(prompt[0], "add")
            assert task == "json" or not trimode.is_held_out(task, prompt)
            assert not row[end - 1 :].any()


def test_copies_are_the_letters_whose_other_saying_is_seen() -> None:
    tokens, _, ends = trimode.batch(np.random.default_rng(4), 5, trimode.Course(records=1.0))
    one, other = trimode.NAMED
    assert (tokens[:, one] == tokens[:, other]).all()
    texts = ["".join(trimode.ALPHABET[token] for token in row) for row in tokens]
    assert all(json.loads(text[2:].strip())["ref"] == text[other] for text in texts)
    seen = np.zeros(tokens.shape, np.bool_)
    seen[:, one.start] = True
    found = trimode.copies(tokens, seen)
    assert found[:, other.start].all()
    assert found.sum() == len(tokens)
    lists, _, _ = trimode.batch(np.random.default_rng(4), 5, trimode.Course(records=0.0))
    assert not trimode.copies(lists, np.ones(lists.shape, np.bool_)).any()
