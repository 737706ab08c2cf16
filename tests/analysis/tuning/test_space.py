"""Which settings there are: around the default, by size, and none that changes an answer."""

from __future__ import annotations

import pytest

from plait.analysis.tuning.space import PARAMETERS, UNASKED, space
from plait.core.config import EngineConfig
from plait.core.errors import UserError
from tests.analysis.tuning.fakes import SPACE


def test_the_default_is_among_the_values_and_stands_for_what_means_the_same() -> None:
    found = space(EngineConfig(max_num_seqs=10), [], threads=4)
    assert found.names == UNASKED
    values = dict(zip(found.names, found.values, strict=True))
    assert values["max_num_seqs"] == (2, 4, 8, 10, 16, 32, 64, 128)
    assert values["max_num_batched_tokens"] == (64, 128, 256, 0, 1024, 2048)
    assert values["threads"] == (1, 2, 3, 0)
    assert found.named(found.base)["max_num_seqs"] == 10
    assert len(list(found.points())) == 8 * 6 * 6 * 2 * 4


def test_every_point_is_a_setting_of_the_engine() -> None:
    found = space(EngineConfig(), list(PARAMETERS), threads=2)
    configs = [found.config(EngineConfig(threads=2), one) for one in found.points()]
    assert {one.proposer for one in configs} == {"none", "lookahead", "auto"}
    assert found.config(EngineConfig(), found.base) == EngineConfig()


def test_parameters_and_values_that_are_asked_for() -> None:
    found = space(EngineConfig(), ["max-num-seqs=4,8", "enable_prefix_caching=false"], threads=2)
    assert found.values == ((4, 8, 64), (False, True))


def test_one_thread_is_no_choice() -> None:
    assert "threads" not in space(EngineConfig(), [], threads=1).names


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("kv", "no parameter that changes the speed and not the answers"),
        ("max_num_seqs=0", "max_num_seqs=0 is out of range"),
        ("max_num_seqs=few", "are no values of max_num_seqs"),
        ("enable_prefix_caching=maybe", "are no values of enable_prefix_caching"),
        ("max_num_seqs=64", "nothing to choose"),
    ],
)
def test_what_is_no_parameter_or_value_is_said(asked: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        space(EngineConfig(), [asked], threads=2)


def test_distance_counts_places() -> None:
    assert SPACE.distance(SPACE.base, SPACE.base) == 0
    assert SPACE.distance((2, 64, True), (128, 2048, False)) == 3
    assert SPACE.distance((2, 0, True), (4, 0, True)) == pytest.approx(1 / 6)
