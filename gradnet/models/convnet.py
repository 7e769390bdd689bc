"""A plain stack of 3x3 convolutions with BatchNorm, of any depth."""

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from gradnet.errors import InvalidInputError


class ConvNet(nn.Sequential):
    """Stages of ``conv-norm-relu``, 2x2 pooling between stages, and a linear head.

    Input ``(N, in_channels, image_size, image_size)``, output logits ``(N, K)``. The
    layers are ``conv0_0``, ``norm0_0``, ``relu0_0``, ``conv0_1``, ..., ``pool0``, ...,
    ``pool``, ``flatten``, ``head``: one linear layer on global average pooling.

    Args:
        in_channels: 1 or 3.
        image_size: height and width, in pixels.
        num_classes: ``K``.
        width: channels of the first stage; each further stage doubles them.
        depths: convolutions of each stage; with 2, 2, 3 the network has 8 layers,
            including the head.

    Raises:
        InvalidInputError: a stage has no convolution, or the images are too small.
    """

    def __init__(
        self,
        in_channels: int = 3,
        image_size: int = 32,
        num_classes: int = 10,
        width: int = 32,
        depths: Sequence[int] = (2, 2, 3),
    ) -> None:
        if not depths or min(depths) < 1:
            raise InvalidInputError(
                f"depths {list(depths)}: give each stage at least one convolution"
            )
        if image_size < 2 ** (len(depths) - 1):
            raise InvalidInputError(
                f"images of {image_size} x {image_size} are too small for "
                f"{len(depths)} stages, each of which halves them; give fewer depths"
            )
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        channels = in_channels
        for stage, depth in enumerate(depths):
            if stage:
                layers[f"pool{stage - 1}"] = nn.MaxPool2d(2)
            for index in range(depth):
                outputs, name = width * 2**stage, f"{stage}_{index}"
                layers[f"conv{name}"] = nn.Conv2d(
                    channels, outputs, 3, padding=1, bias=False
                )
                layers[f"norm{name}"] = nn.BatchNorm2d(outputs)
                layers[f"relu{name}"] = nn.ReLU()
                channels = outputs
        layers["pool"] = nn.AdaptiveAvgPool2d(1)
        layers["flatten"] = nn.Flatten()
        layers["head"] = nn.Linear(channels, num_classes)
        super().__init__(layers)
        for layer in self:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
