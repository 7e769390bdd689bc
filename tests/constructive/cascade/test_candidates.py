"""Plain candidates: each with its own function, gradients equal autograd's."""

import pytest
import torch

from gradnet.constructive.cascade.candidates import PlainUnits, uniform
from gradnet.errors import InvalidInputError
from gradnet.models.activations import activation

NAMES = ("sigmoid", "gaussian", "sine")


def some(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("names", [NAMES, NAMES[:1]], ids=len)
def test_values_and_gradients_of_every_candidate(names):
    units = PlainUnits(5, names)
    weights, features = some(2, 5, 4).requires_grad_(), some(2, 4, 9)
    members = torch.tensor([[0, 1, 2, 3, 4], [4, 4, 1, 0, 2]])
    values, pullback = units.forward(weights, features, members)
    for trial in range(2):
        for index, member in enumerate(members[trial].tolist()):
            net = weights[trial, index] @ features[trial]
            expected = activation(names[member % len(names)]).value(net)
            torch.testing.assert_close(values[trial, index, 0], expected)
    cotangents = some(2, 5, 1, 9)
    (expected,) = torch.autograd.grad(values, weights, cotangents)
    torch.testing.assert_close(pullback(cotangents), expected)


def test_draws_fill_the_range():
    draws = uniform((10_000,), 0.3, torch.Generator().manual_seed(0))
    assert -0.3 <= draws.min() < -0.29 and 0.29 < draws.max() <= 0.3
    assert draws.dtype == torch.float64


def test_unknown_functions_are_refused():
    with pytest.raises(InvalidInputError, match="no activation 'step'"):
        PlainUnits(2, ["step"])
