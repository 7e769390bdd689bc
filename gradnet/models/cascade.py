"""A network of cascaded units, for images or plain feature vectors.

Each layer of units sees the inputs and all units before it; the head sees all.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gradnet.models.activations import activation
from gradnet.models.cnn import initialize_lecun_normal


class CascadeLayer(nn.Module):
    """Units whose outputs are put behind what they see: ``(N, I)`` to ``(N, I + H)``.

    Args:
        inputs: ``I``.
        units: ``H``.
        activation: a name of :data:`gradnet.models.activations.ACTIVATIONS`.
    """

    def __init__(self, inputs: int, units: int, activation: str = "tanh") -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, units)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """What it sees, and what its units make of it."""
        return torch.cat([x, self.units(x)], 1)

    def units(self, x: Tensor) -> Tensor:
        """The units' outputs, ``(N, H)``."""
        values: Tensor = activation(self.activation).value(self.linear(x))
        return values


class Cascade(nn.Sequential):
    """Layers ``units1``, ``units2``, ... in a cascade, and a linear ``head``.

    Input ``(N, in_channels, image_size, image_size)``, output logits ``(N, K)``.
    Without units it is a linear classifier.

    Args:
        in_channels: channels of the images.
        image_size: their height and width, in pixels.
        num_classes: ``K``.
        units: of each layer.
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
