"""Activation functions of cascade units, each with its derivative."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gradnet.errors import InvalidInputError


@dataclass(frozen=True)
class Activation:
    """An activation function of a unit's net input (the weighted sum).

    Attributes:
        value: maps net inputs to activations.
        derivative: maps net inputs, and the activations there, to derivatives.
    """

    value: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor, Tensor], Tensor]


def activation(name: str) -> Activation:
    """The activation function of a name.

    Args:
        name: a key of :data:`ACTIVATIONS`.

    Returns:
        The function and its derivative.

    Raises:
        InvalidInputError: there is no such function.
    """
    if name not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise InvalidInputError(f"no activation {name!r}; there are: {known}")
    return ACTIVATIONS[name]


# Fahlman's sigmoid lies between -0.5 and 0.5.
ACTIVATIONS: Mapping[str, Activation] = {
    "sigmoid": Activation(
        lambda net: torch.sigmoid(net) - 0.5, lambda net, value: 0.25 - value * value
    ),
    "tanh": Activation(torch.tanh, lambda net, value: 1 - value * value),
    "gaussian": Activation(
        lambda net: torch.exp(-0.5 * net * net), lambda net, value: -net * value
    ),
    "sine": Activation(torch.sin, lambda net, value: torch.cos(net)),
    "linear": Activation(lambda net: net, lambda net, value: torch.ones_like(net)),
}
