"""A fully connected network with ReLU, for images or plain feature vectors."""

import itertools
from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from gradnet.models.cnn import initialize_lecun_normal


class MLP(nn.Sequential):
    """A multilayer perceptron: ``linear0``, ``linear1``, ... with ReLU between them.

    Input ``(N, in_channels, image_size, image_size)``, output logits ``(N, K)``.

    Args:
        in_channels: channels of the images.
        image_size: their height and width, in pixels.
        num_classes: ``K``.
        hidden: units of each hidden layer.
    """

    def __init__(
        self,
        in_channels: int = 1,
        image_size: int = 8,
        num_classes: int = 10,
        hidden: Sequence[int] = (64,),
    ) -> None:
        sizes = [in_channels * image_size**2, *hidden, num_classes]
        layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
        for index, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
            if index:
                layers[f"relu{index - 1}"] = nn.ReLU()
            layers[f"linear{index}"] = nn.Linear(inputs, outputs)
        super().__init__(layers)
        initialize_lecun_normal(self)
