"""Kinds of candidate units: what they compute, and the gradients of their weights.

Letters: ``T`` trials, ``C`` candidates, ``I`` columns that a candidate sees (bias,
inputs, hidden units), ``W`` weights of a candidate, ``M`` its outputs, ``N`` samples.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from gradnet.models.activations import activation

Pullback = Callable[[Tensor], Tensor]


class Units(Protocol):
    """A group of candidates of one kind.

    Attributes:
        count: candidates of each trial.
        outputs: ``M`` of each.
    """

    count: int
    outputs: int

    def connections(self, visible: Tensor) -> Tensor:
        """Which weights there are, ``(T, C, W)``, given the columns ``(T, C, I)``."""

    def initial_weights(
        self, columns: int, weight_range: float, generator: torch.Generator
    ) -> Tensor:
        """Fresh weights ``(C, W)`` of one trial."""

    def forward(
        self, weights: Tensor, columns: Tensor, members: Tensor
    ) -> tuple[Tensor, Pullback]:
        """What candidates compute, and how gradients come back from it.

        Args:
            weights: ``(T, C, W)``.
            columns: ``(T, I, N)``.
            members: ``(T, C)``, the index of each candidate in its group.

        Returns:
            The values ``(T, C, M, N)``, and a function that makes of the derivatives
            of something by them its derivatives by the weights, ``(T, C, W)``.
        """


class PlainUnits:
    """Units of a weighted sum, with one function or several in turn.

    Args:
        count: candidates of each trial.
        activations: names of :data:`gradnet.models.activations.ACTIVATIONS`; candidate
            ``c`` has number ``c`` modulo their number.

    Raises:
        InvalidInputError: there is no such activation.
    """

    outputs = 1

    def __init__(self, count: int, activations: Sequence[str] = ("sigmoid",)) -> None:
        self.count, self.activations = count, tuple(activations)
        for name in activations:
            activation(name)

    def connections(self, visible: Tensor) -> Tensor:
        """A weight for each visible column."""
        return visible

    def initial_weights(
        self, columns: int, weight_range: float, generator: torch.Generator
    ) -> Tensor:
        """Uniform in the range, ``(C, I)``."""
        return uniform((self.count, columns), weight_range, generator)

    def forward(
        self, weights: Tensor, columns: Tensor, members: Tensor
    ) -> tuple[Tensor, Pullback]:
        """See :class:`Units`."""
        net = weights @ columns
        values = self.activate(net, members)

        def pullback(cotangents: Tensor) -> Tensor:
            slopes = cotangents.squeeze(2) * self.derivative(net, values, members)
            return slopes @ columns.mT

        return values.unsqueeze(2), pullback

    def activate(self, net: Tensor, members: Tensor) -> Tensor:
        """The function of each candidate at ``(T, C, N)``."""
        if len(self.activations) == 1:
            return activation(self.activations[0]).value(net)
        values = torch.empty_like(net)
        for index, name in enumerate(self.activations):
            chosen = members % len(self.activations) == index
            values[chosen] = activation(name).value(net[chosen])
        return values

    def derivative(self, net: Tensor, values: Tensor, members: Tensor) -> Tensor:
        """The derivative of each candidate's function at ``(T, C, N)``."""
        if len(self.activations) == 1:
            return activation(self.activations[0]).derivative(net, values)
        derivatives = torch.empty_like(net)
        for index, name in enumerate(self.activations):
            chosen = members % len(self.activations) == index
            derivatives[chosen] = activation(name).derivative(
                net[chosen], values[chosen]
            )
        return derivatives


def uniform(
    shape: Sequence[int], weight_range: float, generator: torch.Generator
) -> Tensor:
    """Draws between minus and plus ``weight_range``."""
    draws = torch.rand(*shape, dtype=torch.float64, generator=generator)
    return (2 * draws - 1) * weight_range
