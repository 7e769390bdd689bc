"""The base networks that train here, by name; one's own model needs no entry."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from gradnet.errors import GradnetError
from gradnet.models.cnn import cnn2018, cnn_small
from gradnet.models.convnet import ConvNet
from gradnet.models.mlp import MLP
from gradnet.models.resnet import ResNet


def build_model(name: str, **arguments: Any) -> nn.Module:
    """A new network, with fresh weights from torch's generator.

    Args:
        name: a key of :data:`MODELS`.
        arguments: those of the factory, such as ``in_channels``, ``image_size``,
            ``num_classes`` and ``width``.

    Raises:
        GradnetError: no such model, or it does not take such an argument.
    """
    if name not in MODELS:
        raise GradnetError(f"no model {name!r}; there are: {', '.join(MODELS)}")
    known = inspect.signature(MODELS[name]).parameters
    for argument in arguments:
        if argument not in known:
            raise GradnetError(
                f"model {name!r} takes no {argument!r}; it takes: {', '.join(known)}"
            )
    return MODELS[name](**arguments)


def shape_arguments(image_shape: tuple[int, ...], num_classes: int) -> dict[str, int]:
    """The arguments that every model here takes from the data.

    Args:
        image_shape: ``(channels, height, width)`` as the network sees it.
        num_classes: ``K``.

    Raises:
        GradnetError: the images are not square.
    """
    channels, height, width = image_shape
    if height != width:
        raise GradnetError(
            f"the models here take square images, these are {height} x {width}; "
            "crop them to a square with --augmentation.crop"
        )
    return {"in_channels": channels, "image_size": height, "num_classes": num_classes}


MODELS: Mapping[str, Callable[..., nn.Module]] = {
    "cnn2018": cnn2018,
    "cnn-small": cnn_small,
    "convnet": ConvNet,
    "mlp": MLP,
    "resnet14": ResNet,
}
