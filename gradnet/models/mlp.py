"""A fully connected network with ReLU, for images or plain feature vectors."""

import itertools
from collections import OrderedDict
from collections.abc import Sequence
from typing import Annotated

from torch import nn

from gradnet.core.constraints import Length
from gradnet.core.validation import Pixels, Width, check_arguments
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

    @check_arguments
    def __init__(
        self,
        in_channels: Width = 1,
        image_size: Pixels = 8,
        num_classes: Width = 10,
        hidden: Annotated[Sequence[Width], Length(0, 32)] = (64,),
    ) -> None:
        sizes = [in_channels * image_size**2, *hidden, num_classes]
        layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
        for index, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
            if index:
                layers[f"relu{index - 1}"] = nn.ReLU()
            layers[f"linear{index}"] = nn.Linear(inputs, outputs)
        super().__init__(layers)
        initialize_lecun_normal(self)
