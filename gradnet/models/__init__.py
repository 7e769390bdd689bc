"""The networks of the package, by name; your own model need not be registered.

``--model.name`` takes a name, and snapshots store it. To register your own network,
call :func:`register_model`, or declare an entry point of the group ``gradnet.models``
in your package's metadata.
"""

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from gradnet.core.registry import Registry
from gradnet.errors import InvalidInputError
from gradnet.models.cascade import Cascade
from gradnet.models.cnn import CNN, cnn2018, cnn_small
from gradnet.models.convnet import ConvNet
from gradnet.models.mlp import MLP
from gradnet.models.progressive import ProgressiveNetwork
from gradnet.models.resnet import ResNet

SHAPE_ARGUMENTS = ("in_channels", "image_size", "num_classes")


def build_model(name: str, **arguments: Any) -> nn.Module:
    """A new network, with random weights from torch's global generator.

    Args:
        name: a key of :data:`MODELS`.
        arguments: keyword arguments of the factory, such as ``in_channels``,
            ``image_size``, ``num_classes`` and ``width``.

    Returns:
        The network, in training mode.

    Raises:
        InvalidInputError: there is no such model, or it has no such argument.

    Example:
        >>> build_model("mlp", in_channels=1, image_size=8, hidden=(32,))
        MLP(
          (flatten): Flatten(start_dim=1, end_dim=-1)
          (linear0): Linear(in_features=64, out_features=32, bias=True)
          (relu0): ReLU()
          (linear1): Linear(in_features=32, out_features=10, bias=True)
        )
    """
    factory = MODELS.find(name)
    known = inspect.signature(factory).parameters
    for argument in arguments:
        if not _takes(factory, argument):
            raise InvalidInputError(
                f"model {name!r} takes no {argument!r}; it takes: {', '.join(known)}"
            )
    return factory(**arguments)


def register_model(
    name: str, factory: Callable[..., nn.Module], *, replace: bool = False
) -> None:
    """Register a network by a name, for :func:`build_model` and the command line.

    Args:
        name: a new key of :data:`MODELS`; snapshots of the network store it.
        factory: function or class that returns the network; it takes at least the
            keyword arguments ``in_channels``, ``image_size`` and ``num_classes``, and
            its network maps ``(N, in_channels, image_size, image_size)`` to logits
            ``(N, num_classes)``.
        replace: allow a name that is already registered.

    Raises:
        InvalidInputError: the name is taken or not allowed, or the factory does not
            take these arguments.

    Example:
        >>> from torch import nn
        >>> def linear(in_channels=1, image_size=8, num_classes=10):
        ...     layer = nn.Linear(in_channels * image_size**2, num_classes)
        ...     return nn.Sequential(nn.Flatten(), layer)
        >>> register_model("my-linear", linear)
        >>> build_model("my-linear", num_classes=3)[1].out_features
        3
        >>> MODELS.unregister("my-linear")
    """
    MODELS.register(name, factory, replace=replace)


def shape_arguments(image_shape: tuple[int, ...], num_classes: int) -> dict[str, int]:
    """The arguments of a model that are determined by the data.

    Args:
        image_shape: ``(channels, height, width)``, after augmentation.
        num_classes: ``K``.

    Returns:
        ``in_channels``, ``image_size`` and ``num_classes``, for :func:`build_model`.

    Raises:
        InvalidInputError: the images are not square.
    """
    channels, height, width = image_shape
    if height != width:
        raise InvalidInputError(
            f"the models of gradnet take square images, not {height} x {width}; crop "
            "them to a square with --augmentation.crop"
        )
    return {"in_channels": channels, "image_size": height, "num_classes": num_classes}


def _takes(factory: Callable[..., object], argument: str) -> bool:
    parameters = inspect.signature(factory).parameters
    return argument in parameters or any(
        parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()
    )


def _check_factory(name: str, factory: object) -> None:
    if not callable(factory):
        raise InvalidInputError(
            f"model {name!r}: give a function or class that returns a network, not a "
            f"{type(factory).__name__}"
        )
    missing = [what for what in SHAPE_ARGUMENTS if not _takes(factory, what)]
    if missing:
        raise InvalidInputError(
            f"model {name!r}: the factory takes no {', '.join(missing)}; it must take "
            f"the keyword arguments {', '.join(SHAPE_ARGUMENTS)}"
        )


MODELS: Registry[Callable[..., nn.Module]] = Registry(
    "model",
    {
        "cnn2018": cnn2018,
        "cnn-small": cnn_small,
        "convnet": ConvNet,
        "mlp": MLP,
        "resnet14": ResNet,
    },
    group="gradnet.models",
    check=_check_factory,
)

__all__ = [
    "CNN",
    "MLP",
    "MODELS",
    "Cascade",
    "ConvNet",
    "ProgressiveNetwork",
    "ResNet",
    "build_model",
    "cnn2018",
    "cnn_small",
    "register_model",
    "shape_arguments",
]
