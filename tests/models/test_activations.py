"""Each activation's derivative is that of its value."""

import pytest
import torch

from gradnet.errors import InvalidInputError
from gradnet.models.activations import ACTIVATIONS, activation


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_derivatives_equal_autograd(name):
    net = torch.linspace(-4, 4, 41, dtype=torch.float64, requires_grad=True)
    value = activation(name).value(net)
    (expected,) = torch.autograd.grad(value.sum(), net)
    torch.testing.assert_close(activation(name).derivative(net, value), expected)


def test_the_sigmoid_lies_between_minus_and_plus_a_half():
    ends = activation("sigmoid").value(torch.tensor([-50.0, 0.0, 50.0]))
    assert ends.tolist() == [-0.5, 0, 0.5]


def test_an_unknown_one_is_refused():
    with pytest.raises(
        InvalidInputError, match="no activation 'relu'; there are: sigmoid"
    ):
        activation("relu")
