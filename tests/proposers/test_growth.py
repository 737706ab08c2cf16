"""Trees of guesses: the likeliest nodes, in an order that a window takes."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from plait.proposers.growth import Node, likeliest, proposal

Levels = list[list[tuple[int, float]]]


def children_of(levels: Levels) -> object:
    def children(path: tuple[int, ...]) -> list[tuple[int, float]]:
        return levels[len(path)] if len(path) < len(levels) else []

    return children


@pytest.mark.parametrize("seed", range(10))
def test_the_nodes_are_those_with_the_best_chances(seed: int) -> None:
    rng = np.random.default_rng(seed)
    levels: Levels = []
    for _ in range(3):
        shares = np.sort(rng.dirichlet(np.ones(4)))[::-1]
        levels.append(list(zip(range(4), shares.tolist(), strict=True)))
    every = {
        path: float(np.prod([levels[depth][token][1] for depth, token in enumerate(path)]))
        for length in (1, 2, 3)
        for path in product(range(4), repeat=length)
    }
    nodes = likeliest(children_of(levels), 8, 4)  # type: ignore[arg-type]
    best = sorted(every.values(), reverse=True)[:8]
    assert [node.chance for node in nodes] == pytest.approx(best)
    for branches in (1, 2):
        kept = likeliest(children_of(levels), 8, branches)  # type: ignore[arg-type]
        assert max(token for node in kept for token in node.path) < branches


def test_the_first_way_comes_first() -> None:
    nodes = [
        Node((1,), 0.5),
        Node((2,), 0.4),
        Node((2, 3), 0.3),
        Node((1, 4), 0.2),
        Node((1, 5), 0.1),
    ]
    tokens, parents = proposal(nodes)
    assert tokens.tolist() == [1, 4, 2, 3, 5]
    assert parents.tolist() == [0, 1, 0, 3, 1]
    assert len(proposal([]).tokens) == 0
