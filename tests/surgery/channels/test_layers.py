"""Every rule of a layer, against what the layer does when units are copied."""

import pytest
import torch
from channel_cases import IMAGES, disturbed
from torch import nn

from gradnet.errors import InvalidInputError
from gradnet.surgery.widen import widen

PASSED = [
    nn.ReLU6(),
    nn.Hardswish(inplace=True),
    nn.PReLU(),
    nn.PReLU(4),
    nn.Softplus(),
    nn.Dropout2d(0.5),
    nn.AlphaDropout(),
    nn.Identity(),
    nn.BatchNorm2d(4),
    nn.BatchNorm2d(4, affine=False, track_running_stats=False),
    nn.InstanceNorm2d(4),
    nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
    nn.LayerNorm((6, 6)),
    nn.RMSNorm(6),
    nn.Softmax(dim=-1),
    nn.Conv2d(4, 4, 3, padding=1, groups=4),
    nn.AvgPool2d(3, 1, 1),
    nn.AdaptiveMaxPool2d(6),
    nn.LPPool2d(2, 1),
    nn.ReflectionPad2d(1),
    nn.Upsample(scale_factor=2),
    nn.Upsample(7, mode="bilinear"),
]
MIXED = [
    nn.LayerNorm((4, 6, 6)),
    nn.RMSNorm((4, 6, 6)),
    nn.GroupNorm(4, 4),
    nn.LocalResponseNorm(2),
    nn.Softmax(1),
    nn.LogSoftmax(-3),
    nn.Softmax2d(),
]
REFUSED = [
    nn.GLU(2),
    nn.PixelShuffle(2),
    nn.ChannelShuffle(2),
    nn.ConvTranspose2d(4, 4, 1),
    nn.Conv2d(4, 4, 1, groups=2),
    nn.Conv2d(4, 8, 1, groups=4),
    nn.Unflatten(1, (2, 2)),
    nn.MaxPool3d(1),
]


def network(layer: nn.Module) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), layer, nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(16, 3),
    )  # fmt: skip


@pytest.mark.parametrize("layer", PASSED, ids=repr)
def test_channels_are_followed(layer):
    model = disturbed(network(layer).double())
    x = torch.randn(*IMAGES, dtype=torch.float64)
    edit = widen(model, "0", 9, probe=x)
    assert edit.certificate.largest_difference <= 1e-10
    restored = eval(f"nn.{edit.model[1]!r}").double()
    restored.load_state_dict(edit.model[1].state_dict())
    assert ("9" in repr(restored)) == ("4" in repr(layer))


@pytest.mark.parametrize("layer", MIXED, ids=repr)
def test_layers_that_mix_channels_are_named(layer):
    kind = type(layer).__name__
    with pytest.raises(InvalidInputError, match=rf"layer '1' \({kind}\) mixes them"):
        widen(network(layer), "0", 8, probe=torch.randn(*IMAGES))
    edit = widen(network(layer), "0", 8, probe=torch.randn(*IMAGES), exact=False)
    assert edit.model[4].in_features == 32


@pytest.mark.parametrize("layer", REFUSED, ids=repr)
def test_layers_without_a_rule_are_named(layer):
    model = nn.Sequential(nn.Conv2d(2, 4, 3), layer, nn.Flatten(), nn.LazyLinear(3))
    x = torch.randn(*IMAGES)
    model(x)
    with pytest.raises(
        InvalidInputError, match=rf"layer '1' \({type(layer).__name__}\)"
    ):
        widen(model, "0", 8, probe=x)
