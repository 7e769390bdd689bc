"""The functions of cascade units, each with its derivative from its own value."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gradnet.errors import GradnetError


@dataclass(frozen=True)
class Activation:
    """A function of a unit's net input.

    Attributes:
        value: of the net input.
        derivative: of the net input and the value there.
    """

    value: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor, Tensor], Tensor]


def activation(name: str) -> Activation:
    """The function of a name.

    Raises:
        GradnetError: there is none.
    """
    if name not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise GradnetError(f"no activation {name!r}; there are: {known}")
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
