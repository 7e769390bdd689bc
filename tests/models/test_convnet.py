"""The plain stack of convolutions has the layers that it says, for any depths."""

import pytest
import torch
from torch import nn

from gradnet.errors import InvalidInputError
from gradnet.models.convnet import ConvNet


@pytest.mark.parametrize(("depths", "layers"), [((2, 2, 3), 8), ((6, 6, 7), 20)])
def test_the_studies_networks_have_8_and_20_layers(depths, layers):
    model = ConvNet(3, 16, 10, width=2, depths=depths)
    weighted = [m for m in model if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(weighted) == layers
    assert model(torch.zeros(2, 3, 16, 16)).shape == (2, 10)


def test_channels_double_and_sides_halve_from_stage_to_stage():
    model = ConvNet(1, 8, 5, width=3, depths=(1, 2, 1))
    assert [m.out_channels for m in model if isinstance(m, nn.Conv2d)] == [3, 6, 6, 12]
    names = [name for name, _ in model.named_children()]
    x = torch.zeros(1, 1, 8, 8)
    for name, layer in model.named_children():
        x = layer(x)
        if name == "relu2_0":
            assert x.shape == (1, 12, 2, 2)
    assert names.index("pool0") < names.index("conv1_0") < names.index("pool1")


def test_invalid_arguments_are_refused():
    with pytest.raises(InvalidInputError, match="give each stage at least one"):
        ConvNet(depths=(1, 0))
    with pytest.raises(InvalidInputError, match="2 x 2 are too small for 3 stages"):
        ConvNet(image_size=2, depths=(1, 1, 1))
