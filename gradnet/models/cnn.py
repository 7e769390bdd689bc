"""The CNN of the 2018 GradNet study, of any width, and a small one for digits.

After "Tangent Space Separability in Feedforward Neural Networks" (arXiv 1912.09306):
two convolutions with ReLU and 2x2 pooling, the second pooling with ceil mode, and one
linear layer. With 64 channels and inputs of 3 x 24 x 24 it has 130,240 weights.
"""

import math
from collections import OrderedDict

from torch import nn

from gradnet.errors import InvalidInputError


class CNN(nn.Sequential):
    """Two convolutions and a linear layer: ``conv0``, ``conv1``, ``linear``.

    Input ``(N, in_channels, image_size, image_size)``, output logits ``(N, K)``.

    Args:
        in_channels: 1 or 3.
        image_size: height and width, in pixels.
        num_classes: ``K``.
        width: channels of both convolutions.
        kernel_size: side of both kernels.
        paddings: padding of the first and of the second convolution.

    Raises:
        InvalidInputError: the images are too small for the kernels.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: int,
        num_classes: int,
        width: int,
        kernel_size: int,
        paddings: tuple[int, int],
    ) -> None:
        pooled = (image_size + 2 * paddings[0] - kernel_size + 1) // 2
        size = math.ceil((pooled + 2 * paddings[1] - kernel_size + 1) / 2)
        if min(pooled, size) < 1:
            raise InvalidInputError(
                f"images of {image_size} x {image_size} are too small for this CNN; "
                "use --model.name mlp"
            )
        conv0 = nn.Conv2d(in_channels, width, kernel_size, padding=paddings[0])
        conv1 = nn.Conv2d(width, width, kernel_size, padding=paddings[1])
        super().__init__(
            OrderedDict(
                conv0=conv0,
                relu0=nn.ReLU(),
                pool0=nn.MaxPool2d(2),
                conv1=conv1,
                relu1=nn.ReLU(),
                pool1=nn.MaxPool2d(2, ceil_mode=True),
                flatten=nn.Flatten(),
                linear=nn.Linear(width * size * size, num_classes),
            )
        )
        initialize_lecun_normal(self)


def initialize_lecun_normal(model: nn.Module) -> None:
    """Weights from N(0, 1 / fan_in), biases zero: the default of Chainer."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            fan_in = layer.weight[0].numel()
            nn.init.normal_(layer.weight, std=fan_in**-0.5)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def cnn2018(
    in_channels: int = 3, image_size: int = 24, num_classes: int = 10, width: int = 64
) -> CNN:
    """The 2018 network: 5x5 kernels, paddings 1 and 2, 64 channels by default."""
    return CNN(in_channels, image_size, num_classes, width, 5, (1, 2))


def cnn_small(
    in_channels: int = 1, image_size: int = 8, num_classes: int = 10, width: int = 16
) -> CNN:
    """A CNN for small images: 3x3 kernels, padding 1, 16 channels by default."""
    return CNN(in_channels, image_size, num_classes, width, 3, (1, 1))
