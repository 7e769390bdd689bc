"""The fully connected network: names, sizes and what it computes."""

import pytest
import torch
from torch import nn

from gradnet.models.mlp import MLP


def test_default_fits_digits() -> None:
    model = MLP()
    assert [name for name, _ in model.named_children()] == [
        "flatten",
        "linear0",
        "relu0",
        "linear1",
    ]
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


@pytest.mark.parametrize("hidden", [(), (5,), [7, 6, 5]])
def test_hidden_layers_have_the_units_asked_for(hidden: list[int]) -> None:
    model = MLP(in_channels=3, image_size=4, num_classes=2, hidden=hidden)
    layers = [layer for layer in model if isinstance(layer, nn.Linear)]
    assert [layer.in_features for layer in layers] == [48, *hidden]
    assert [layer.out_features for layer in layers] == [*hidden, 2]
    assert sum(isinstance(layer, nn.ReLU) for layer in model) == len(hidden)
    assert isinstance(model[-1], nn.Linear)


def test_logits_are_those_of_the_formula() -> None:
    model = MLP(image_size=3, num_classes=4, hidden=(5,)).double()
    x = torch.randn(6, 1, 3, 3, dtype=torch.float64)
    hidden = (x.reshape(6, 9) @ model.linear0.weight.T + model.linear0.bias).relu()
    expected = hidden @ model.linear1.weight.T + model.linear1.bias
    torch.testing.assert_close(model(x), expected)


def test_weights_start_small_and_biases_zero() -> None:
    model = MLP(image_size=20, hidden=(100,))
    assert model.linear0.weight.std().item() == pytest.approx(1 / 20, rel=0.05)
    assert not model.linear0.bias.any()
