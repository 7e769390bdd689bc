"""Base class of methods that start from a registered or the user's own network."""

import copy
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from gradnet.checkpoints.model_loader import load_user_model
from gradnet.errors import InvalidInputError
from gradnet.growth.method import GrowthMethod
from gradnet.models import MODELS, build_model, shape_arguments
from gradnet.surgery.masks import has_masks


@dataclass(frozen=True, kw_only=True)
class NamedNetwork(GrowthMethod):
    """What such methods share.

    Attributes:
        model: mlp, cnn2018, cnn-small, convnet or resnet14, or one of your own, as
            package.module:factory or torchvision:resnet18.
        model_args: arguments of the network, such as '{"hidden": [100, 100]}'.
        checkpoint: weights of a trained network, which may then be edited at once:
            --growth.first 0.
    """

    model: str = "mlp"
    model_args: dict[str, Any] = field(default_factory=dict)
    checkpoint: str | None = None

    def initial_model(
        self, input_shape: tuple[int, int, int], num_classes: int
    ) -> nn.Module:
        """The network; a registered one gets its shape arguments from the images."""
        arguments = dict(self.model_args)
        if self.model in MODELS:
            arguments |= shape_arguments(input_shape, num_classes)
        if self.model in MODELS and self.checkpoint is None:
            return build_model(self.model, **arguments)
        return load_user_model(self.model, arguments, self.checkpoint)

    def begin_with(
        self, start: nn.Module, input_shape: tuple[int, int, int], num_classes: int
    ) -> nn.Module:
        """A copy of the given network, of any type.

        Raises:
            InvalidInputError: the network is pruned and the method would not keep
                pruned weights at zero, or ``checkpoint`` is set too.
        """
        if self.checkpoint is not None:
            raise InvalidInputError(
                "both a checkpoint and a grown network to start from are given; give "
                "one of them"
            )
        if has_masks(start) and not self.takes_masks:
            raise InvalidInputError(
                "the network to start from is pruned, and "
                f"{type(self).__name__} would not keep pruned weights at zero; start "
                "from the network before it was pruned"
            )
        return copy.deepcopy(start)

    @property
    def takes_masks(self) -> bool:
        """Whether pruned weights of a network to start from stay zero."""
        return False
