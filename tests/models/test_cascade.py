"""A cascade's units see the inputs and all units before them."""

import torch

from gradnet.models.cascade import Cascade


def test_it_computes_unit_after_unit():
    model = Cascade(1, 2, 3, units=[2, 1], activation="sigmoid").double()
    x = torch.randn(5, 1, 2, 2, dtype=torch.float64)
    columns = x.flatten(1)
    for layer in (model.units1.linear, model.units2.linear):
        net = columns @ layer.weight.T + layer.bias
        columns = torch.cat([columns, 1 / (1 + (-net).exp()) - 0.5], 1)
    expected = columns @ model.head.weight.T + model.head.bias
    torch.testing.assert_close(model(x), expected)


def test_without_units_it_is_linear():
    model = Cascade(2, 3, 4)
    assert [name for name, _ in model.named_children()] == ["flatten", "head"]
    assert model.head.weight.shape == (4, 18)
