"""Muon: updates are orthogonal, the matrices of the layers get them, and a stop leaves no trace."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the extra `train`")

from train.muon import LIKE_ADAM, Muon, orthogonal  # noqa: E402
from train.recipe import Run, optimizers  # noqa: E402

from tests.train.test_recipe import RECIPE, weights  # noqa: E402

WITH_MUON = dataclasses.replace(RECIPE, muon=True)


@pytest.mark.parametrize("shape", [(3, 128, 128), (2, 384, 128), (2, 128, 384), (1, 8, 8)])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_singular_values_end_near_one_and_their_vectors_stay(
    shape: tuple[int, int, int], scale: float
) -> None:
    given = scale * torch.randn(shape, generator=torch.Generator().manual_seed(1))
    found = orthogonal(given)
    assert found.shape == given.shape
    left, before, right = torch.linalg.svd(given, full_matrices=False)
    turned = left.mT @ found @ right.mT  # in the vectors of what was given
    values = turned.diagonal(dim1=1, dim2=2)
    assert (turned - torch.diag_embed(values)).abs().max() < 1e-3
    # Five steps leave behind what was below a hundredth of the largest, as in nearly singular squares.
    large = before > before[:, :1] / 100
    assert values[large].min() > 0.5
    assert values.max() < 1.5
    assert values.min() > 0


def test_an_update_has_the_size_of_one_of_adam() -> None:
    torch.manual_seed(1)
    parameter = torch.nn.Parameter(torch.zeros(64, 192))
    parameter.grad = torch.randn(64, 192)
    Muon([parameter], lr=0.01).step()
    size = float(parameter.detach().square().mean().sqrt())
    assert 0.7 < size / (0.01 * LIKE_ADAM) < 1.2


def test_the_matrices_of_the_layers_have_muon_and_nothing_else_has(tmp_path: Path) -> None:
    model = Run(WITH_MUON, tmp_path).model
    adam, muon = optimizers(model, WITH_MUON)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    own = [{names[id(p)] for g in each.param_groups for p in g["params"]} for each in (adam, muon)]
    assert own[0] | own[1] == set(names.values())
    assert not own[0] & own[1]
    assert own[1] == {n for n in names.values() if n.startswith("layers.") and "norm" not in n}
    assert len(optimizers(model, RECIPE)) == 1


def test_a_run_with_muon_that_was_stopped_has_the_bits_of_one_that_was_not(tmp_path: Path) -> None:
    whole = Run(WITH_MUON, tmp_path / "whole")
    whole.train()
    Run(WITH_MUON, tmp_path / "stopped").train(until=3)
    resumed = Run(WITH_MUON, tmp_path / "stopped")
    assert resumed.step == 3
    resumed.train()
    plain = Run(RECIPE, tmp_path / "plain")
    plain.train()
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(resumed)[name]), name
    assert not torch.equal(
        weights(whole)["layers.0.attn_q.weight"], weights(plain)["layers.0.attn_q.weight"]
    )
