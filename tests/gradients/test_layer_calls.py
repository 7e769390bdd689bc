"""Calls are recorded in order, rules turn them into factors, and no hook stays."""

import pytest
import torch
from torch import Tensor, nn

from gradnet.gradients.layer_calls import Layer, apply_rules, record_calls
from gradnet.gradients.layer_rules import rules_of


def layer_of(module: nn.Module) -> Layer:
    rules = rules_of(module)
    assert rules is not None
    return Layer(module, rules, {"weight": "fc.weight"})


def pulled_back(layer: Layer, output: Tensor) -> list[Tensor]:
    """The cotangents that the sum of an output has at each recorded call."""
    return list(torch.autograd.grad(output.sum(), [call.edge for call in layer.calls]))


def test_every_call_has_its_input_and_its_cotangent() -> None:
    layer = layer_of(nn.Linear(2, 2))
    x = torch.randn(3, 2)
    with record_calls([layer]):
        first = layer.module(x)
        output = layer.module(first)
    assert torch.equal(layer.calls[0].x, x)
    assert torch.equal(layer.calls[1].x, first.detach())
    one, two = pulled_back(layer, output)
    assert torch.equal(two, torch.ones(3, 2))
    assert torch.allclose(one, two @ layer.module.weight)


def test_the_output_of_a_frozen_layer_has_a_cotangent_and_may_be_overwritten() -> None:
    layer = layer_of(nn.Linear(2, 2).requires_grad_(False))
    with record_calls([layer]):
        output = layer.module(torch.ones(1, 2)).mul_(3)
    assert pulled_back(layer, output)[0].tolist() == [[3, 3]]


def test_an_input_that_is_overwritten_later_is_noticed() -> None:
    layer = layer_of(nn.Linear(2, 2))
    x = torch.ones(1, 2)
    with record_calls([layer]):
        layer.module(x)
    assert layer.calls[0].x._version == layer.calls[0].version
    x.add_(1)
    assert layer.calls[0].x._version != layer.calls[0].version


def test_hooks_are_removed_after_an_exception_too() -> None:
    layer = layer_of(nn.Linear(2, 2))
    with pytest.raises(RuntimeError), record_calls([layer]):
        layer.module(torch.ones(1, 3))
    assert not layer.module._forward_hooks and not layer.calls


def test_a_layer_without_parameters_to_read_is_not_recorded() -> None:
    layer = layer_of(nn.Linear(2, 2))
    layer.leaves = {}
    with record_calls([layer]):
        layer.module(torch.ones(1, 2))
    assert not layer.calls


@pytest.mark.parametrize(
    ("module", "shape"), [(nn.Linear(2, 3), (8, 2)), (nn.Conv1d(2, 3, 1), (8, 2, 1))]
)
def test_a_batch_of_several_positions_a_sample_is_summed_over_them(
    module: nn.Module, shape: tuple[int, ...]
) -> None:
    layer = layer_of(module.double())
    x = torch.randn(shape, dtype=torch.float64)
    with record_calls([layer]):
        output = layer.module(x)
    (call,) = layer.calls
    cotangents = torch.randn(output.shape, dtype=torch.float64)
    call.cotangents = cotangents.unflatten(0, (4, 1, 2))  # N, C and m
    actual = torch.zeros(4, 1, *layer.module.weight.shape, dtype=torch.float64)
    for name, factors in apply_rules(layer, call, 4):
        assert name == "fc.weight"
        factors.form(actual, add=True)
    rows = torch.einsum("no,ni->noi", cotangents.flatten(1), x.flatten(1))
    expected = rows.unflatten(0, (4, 2)).sum(1).view(actual.shape)
    assert torch.allclose(actual, expected)
