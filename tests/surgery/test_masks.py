"""Masked weights stay exactly zero through training, and through files."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrize

from gradnet.core.flops import count_parameters
from gradnet.errors import InvalidInputError
from gradnet.surgery.masks import (
    count_remaining,
    masks_of,
    original_name,
    prunable_weights,
    with_masks,
    without_masks,
)

X = torch.randn(8, 2, 4, 4, generator=torch.manual_seed(0))
Y = torch.arange(8) % 3


def network():
    return nn.Sequential(
        nn.Conv2d(2, 3, 3),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Sequential(nn.Flatten(), nn.Linear(12, 3)),
    )


def halves(model):
    generator = torch.manual_seed(1)
    return {
        name: torch.rand(model.get_parameter(name).shape, generator=generator) < 0.5
        for name in prunable_weights(model)
    }


def is_masked(model, kept):
    plain = without_masks(model)
    return all((plain.get_parameter(n)[~mask] == 0).all() for n, mask in kept.items())


def test_only_weights_of_linear_and_convolutional_layers_are_prunable():
    assert prunable_weights(network()) == ["0.weight", "3.1.weight"]
    assert prunable_weights(nn.Linear(2, 2)) == ["weight"]
    with pytest.raises(InvalidInputError, match="no linear or convolutional layer"):
        prunable_weights(nn.BatchNorm1d(3))


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_masked_weights_stay_zero_with_every_optimizer(name):
    plain = network()
    kept = halves(plain)
    model = with_masks(plain, kept)
    if name == "sgd":
        optimizer = torch.optim.SGD(
            model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1
        )
    else:
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(10):
        optimizer.zero_grad()
        functional.cross_entropy(model(X), Y).backward()
        optimizer.step()
    assert is_masked(model, kept)
    trained = without_masks(model)
    for parameter, mask in kept.items():
        before, after = plain.get_parameter(parameter), trained.get_parameter(parameter)
        original = model.get_parameter(original_name(model, parameter))
        assert (original[~mask] == 0).all()
        assert (before[mask] != after[mask]).all()


def test_the_function_is_that_of_zeros_and_the_network_stays():
    plain = network().eval()
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    kept = halves(plain)
    model = with_masks(plain, kept)
    assert all(torch.equal(before[n], v) for n, v in plain.state_dict().items())
    zeroed = without_masks(model)
    assert type(zeroed[0]) is nn.Conv2d and not parametrize.is_parametrized(zeroed[0])
    torch.testing.assert_close(model(X), zeroed(X), rtol=0, atol=0)
    # The copy's masks are its own: the network that was copied still has them.
    assert all(torch.equal(kept[n], m) for n, m in masks_of(model).items())
    assert (model[0].weight == zeroed[0].weight).all()
    assert all(mask.all() for mask in masks_of(plain).values())


def test_masks_can_be_removed_and_added_again():
    plain = network()
    kept = halves(plain)
    first = with_masks(plain, kept)
    fewer = {name: mask & (torch.rand(mask.shape) < 0.5) for name, mask in kept.items()}
    second = with_masks(without_masks(first), fewer)
    assert is_masked(second, fewer) and is_masked(first, kept)
    assert all(torch.equal(fewer[n], m) for n, m in masks_of(second).items())


def test_a_state_dict_brings_the_masks_along():
    plain = network()
    kept = halves(plain)
    masked = with_masks(plain, kept)
    whole = {name: torch.ones_like(mask) for name, mask in kept.items()}
    other = with_masks(network(), whole)
    other.load_state_dict(masked.state_dict())
    assert all(torch.equal(kept[n], m) for n, m in masks_of(other).items())
    assert torch.equal(other.eval()(X), masked.eval()(X))


def test_pruned_weights_are_not_counted():
    plain = network()
    kept = halves(plain)
    deleted = sum(int((~mask).sum()) for mask in kept.values())
    assert deleted and count_remaining(plain) == count_parameters(plain)
    masked = with_masks(plain, kept)
    assert count_remaining(masked) == count_parameters(plain) - deleted
    assert count_remaining(masked, trainable_only=True) == count_remaining(masked)
    masked.requires_grad_(False)
    assert count_remaining(masked, trainable_only=True) == 0
    original = masked[0].parametrizations.weight.original.requires_grad_(True)
    left = count_remaining(masked, trainable_only=True)
    assert left == kept["0.weight"].sum() < original.numel()


def test_frozen_weights_stay_frozen():
    plain = network()
    plain[0].weight.requires_grad_(False)
    back = without_masks(with_masks(plain, halves(plain)))
    assert not back[0].weight.requires_grad and back[3][1].weight.requires_grad


def test_other_parametrizations_are_refused():
    model = network()
    nn.utils.parametrizations.weight_norm(model[0])
    with pytest.raises(InvalidInputError, match="parametrization of another kind"):
        masks_of(model)
