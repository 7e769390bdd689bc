"""Outputs are recorded before in-place changes; new layers get free names."""

import pytest
import torch
from reference import assert_same
from torch import nn

from gradnet.errors import InvalidInputError
from gradnet.surgery.placement import (
    append_child,
    insert_after,
    layer_output,
    unused_names,
)


def test_output_is_that_before_later_layers_work_in_place() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Identity(), nn.ReLU(inplace=True))
    x = torch.randn(5, 3)
    output, weighted = layer_output(model, "1", x)
    assert_same(output, model[0](x).detach())
    assert isinstance(weighted, nn.Linear) and (output < 0).any()


def test_weighted_layer_is_the_last_that_ran_before() -> None:
    model = nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    x = torch.randn(5, 2, 6)
    assert isinstance(layer_output(model, "1", x)[1], nn.Conv1d)
    assert isinstance(layer_output(model, "3", x)[1], nn.Linear)
    assert layer_output(nn.Sequential(nn.ReLU()), "0", x)[1] is None


def test_looking_changes_nothing() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5), nn.ReLU())
    x = torch.randn(5, 3) + 4
    state = torch.get_rng_state()
    output, _ = layer_output(model, "1", x, training=True)
    assert torch.equal(torch.get_rng_state(), state)
    assert output.mean().abs() < 1e-6 and (output != 0).all()
    assert model[0].num_batches_tracked == 0 and model[1].training
    assert not any(m._forward_hooks for m in model.modules())


def test_output_that_is_no_tensor_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="'0' returns a tuple, not a tensor"):
        layer_output(nn.Sequential(nn.LSTM(3, 2)), "0", torch.randn(5, 3))


def test_list_of_layers_keeps_its_length() -> None:
    model = nn.ModuleDict({"all": nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])})
    old = model["all"][0].weight
    origins = insert_after(model, "all.0", [nn.ReLU(), nn.Linear(2, 2)])
    assert [*model["all"]._modules] == ["0", "1"]
    assert [*model["all"][0]._modules] == ["0", "1", "2"]
    assert model["all"][0][0].weight is old
    assert origins["all.0.0.weight"].source == "all.0.weight"
    assert origins["all.1.bias"].source == "all.1.bias"
    assert "all.0.2.weight" not in origins


def test_tied_parameters_keep_their_own_names() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    origins = append_child(model, "", nn.ReLU(), "last")
    assert origins["1.weight"].source == "1.weight"
    assert [*model._modules] == ["0", "1", "last"]


def test_names_get_one_number_together() -> None:
    assert unused_names(["a", "b"], ["c"]) == ["a", "b"]
    assert unused_names(["a", "b"], ["b", "a2"]) == ["a3", "b3"]
