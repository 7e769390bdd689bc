"""Tiny models and their inputs, in float64 and evaluation mode, as builders by id."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gradnet.models import build_model

NUM_SAMPLES, NUM_CLASSES = 4, 3


@dataclass(frozen=True)
class Case:
    """A model, inputs ``(N, ...)`` for it, and a label of each."""

    model: nn.Module
    x: Tensor
    y: Tensor


class Residual(nn.Module):
    """A convolution and BatchNorm, added to what they were given."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.conv(x)).relu()


class Shared(nn.Module):
    """One layer used twice, and a second one that holds the first one's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Linear(4, 4)
        self.tied = nn.Linear(4, 4)
        self.tied.weight = self.twice.weight
        self.last = nn.Linear(4, NUM_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.twice(self.twice(x).tanh()).tanh()
        return self.last(self.tied(x).tanh())


class Encoder(nn.Module):
    """A transformer layer, and the mean of what it makes of a sample's tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(4, 2, 3, batch_first=True)
        self.head = nn.Linear(4, NUM_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x).mean(1))


class Scaled(nn.Module):
    """Parameters that belong to the model itself, one of them without dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.7))
        self.inner = nn.Linear(4, NUM_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.inner(x).tanh()


def randomize(model: nn.Module) -> nn.Module:
    """Random values everywhere, so that no term hides behind a zero."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    for name, buffer in model.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            nn.init.uniform_(buffer, 0.5, 1.5)
    return model


def _case(model: nn.Module, *shape: int) -> Case:
    torch.manual_seed(1)
    randomize(model)
    x = torch.randn(NUM_SAMPLES, *shape, dtype=torch.float64)
    return Case(model.double().eval(), x, torch.tensor([0, 2, 1, 2]))


def cnn() -> Case:
    """The package's own CNN, narrow."""
    arguments = {"image_size": 5, "num_classes": NUM_CLASSES, "width": 2}
    return _case(build_model("cnn-small", in_channels=2, **arguments), 2, 5, 5)


def mlp() -> Case:
    """The package's own MLP."""
    arguments = {"image_size": 2, "num_classes": NUM_CLASSES, "hidden": [3, 4]}
    return _case(build_model("mlp", in_channels=1, **arguments), 1, 2, 2)


def residual() -> Case:
    """A residual block with BatchNorm, below global average pooling."""
    layers = OrderedDict(
        stem=nn.Conv2d(1, 2, 3),
        block=Residual(2),
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        head=nn.Linear(2, NUM_CLASSES),
    )
    return _case(nn.Sequential(layers), 1, 5, 5)


def shared() -> Case:
    """A layer used twice and a tied weight."""
    return _case(Shared(), 4)


def strange_convolutions() -> Case:
    """Groups, strides, dilation, and one dimension."""
    layers = OrderedDict(
        grouped=nn.Conv2d(4, 4, 3, groups=2, padding=1, padding_mode="reflect"),
        tanh=nn.Tanh(),
        strided=nn.Conv2d(4, 2, 2, stride=2, padding=1),
        relu=nn.ReLU(),
        dilated=nn.Conv2d(2, 2, (3, 2), dilation=(1, 2)),
        flatten=nn.Flatten(2),
        line=nn.Conv1d(2, 2, 1),
        join=nn.Flatten(),
        linear=nn.Linear(2, NUM_CLASSES),
    )
    return _case(nn.Sequential(layers), 4, 5, 5)


def layer_norm() -> Case:
    """LayerNorm and a linear layer on more than two dimensions."""
    layers = OrderedDict(
        norm=nn.LayerNorm(3),
        tokens=nn.Linear(3, 2),
        gelu=nn.GELU(),
        flatten=nn.Flatten(),
        head=nn.Linear(8, NUM_CLASSES),
    )
    return _case(nn.Sequential(layers), 4, 3)


def attention() -> Case:
    """A transformer layer, which torch computes by fused kernels where it can."""
    return _case(Encoder(), 3, 4)


def own_parameters() -> Case:
    """A scalar parameter that belongs to no layer."""
    return _case(Scaled(), 4)


def bare_layer() -> Case:
    """A model that is one layer, so that its block has an empty name."""
    return _case(nn.Linear(4, NUM_CLASSES), 4)


CASES: Mapping[str, Callable[[], Case]] = {
    builder.__name__: builder
    for builder in (
        cnn,
        mlp,
        residual,
        shared,
        strange_convolutions,
        layer_norm,
        attention,
        own_parameters,
        bare_layer,
    )
}
