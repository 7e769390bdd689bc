"""The cascade architecture of Fahlman and Lebiere (1990), for images or features.

S. E. Fahlman and C. Lebiere, The cascade-correlation learning architecture, NIPS 2,
1990. Each hidden layer sees the inputs and the outputs of all earlier hidden layers,
and so does the head.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gradnet.models.activations import activation
from gradnet.models.cnn import initialize_lecun_normal


class CascadeLayer(nn.Module):
    """A hidden layer that appends its outputs to its input: ``(N, I + H)``.

    Args:
        inputs: ``I``, number of input features.
        units: ``H``, number of hidden units.
        activation: a name of :data:`gradnet.models.activations.ACTIVATIONS`.
    """

    def __init__(self, inputs: int, units: int, activation: str = "tanh") -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, units)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """The input and the outputs of the units, ``(N, I + H)``."""
        return torch.cat([x, self.units(x)], 1)

    def units(self, x: Tensor) -> Tensor:
        """The units' outputs, ``(N, H)``."""
        values: Tensor = activation(self.activation).value(self.linear(x))
        return values


class Cascade(nn.Sequential):
    """Layers ``units1``, ``units2``, ... in a cascade, and a linear ``head``.

    Input ``(N, in_channels, image_size, image_size)``, output logits ``(N, K)``.
    Without hidden units it is a linear classifier.

    Args:
        in_channels: channels of the images.
        image_size: their height and width, in pixels.
        num_classes: ``K``.
        units: number of units in each layer.
        activation: see :class:`CascadeLayer`.
    """

    head: nn.Linear

    def __init__(
        self,
        in_channels: int = 1,
        image_size: int = 8,
        num_classes: int = 10,
        units: Sequence[int] = (),
        activation: str = "tanh",
    ) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
        inputs = in_channels * image_size**2
        for number, count in enumerate(units, 1):
            layers[f"units{number}"] = CascadeLayer(inputs, count, activation)
            inputs += count
        layers["head"] = nn.Linear(inputs, num_classes)
        super().__init__(layers)
        initialize_lecun_normal(self)
