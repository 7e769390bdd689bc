"""Kinds of candidate units: their activations, and the gradients of their weights.

Letters: ``T`` trials, ``C`` candidates, ``I`` features that a candidate sees (bias,
inputs, hidden units), ``W`` weights of a candidate, ``M`` outputs of a candidate, ``N``
samples.
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
        count: number of candidates of each trial.
        outputs: ``M``.
    """

    count: int
    outputs: int

    def connection_mask(self, visible: Tensor) -> Tensor:
        """Which weights exist ``(T, C, W)``, given connected features ``(T, C, I)``."""

    def initial_weights(
        self, features: int, weight_range: float, generator: torch.Generator
    ) -> Tensor:
        """Initial weights ``(C, W)`` of one trial, for ``I`` features."""

    def forward(
        self, weights: Tensor, features: Tensor, members: Tensor
    ) -> tuple[Tensor, Pullback]:
        """The activations of candidates, and their vector-Jacobian product.

        Args:
            weights: ``(T, C, W)``.
            features: ``(T, I, N)``.
            members: the index of each candidate in its group, ``(T, C)``.

        Returns:
            The values ``(T, C, M, N)``, and a function that maps cotangents of the
            values to cotangents of the weights, ``(T, C, W)``.
        """


class PlainUnits:
    """Ordinary units: an activation function of a weighted sum of the features.

    Args:
        count: number of candidates of each trial.
        activations: names of :data:`gradnet.models.activations.ACTIVATIONS`, assigned
            in turn: candidate ``c`` has number ``c`` modulo their number.

    Raises:
        InvalidInputError: an activation is unknown.
    """

    outputs = 1

    def __init__(self, count: int, activations: Sequence[str] = ("sigmoid",)) -> None:
        self.count, self.activations = count, tuple(activations)
        for name in activations:
            activation(name)

    def connection_mask(self, visible: Tensor) -> Tensor:
        """A weight for each visible column."""
        return visible

    def initial_weights(
        self, features: int, weight_range: float, generator: torch.Generator
    ) -> Tensor:
        """Uniform in the range, ``(C, I)``."""
        return uniform((self.count, features), weight_range, generator)

    def forward(
        self, weights: Tensor, features: Tensor, members: Tensor
    ) -> tuple[Tensor, Pullback]:
        """See :class:`Units`."""
        net = weights @ features
        values = self.activate(net, members)

        def pullback(cotangents: Tensor) -> Tensor:
            deltas = cotangents.squeeze(2) * self.derivative(net, values, members)
            return deltas @ features.mT

        return values.unsqueeze(2), pullback

    def activate(self, net: Tensor, members: Tensor) -> Tensor:
        """The activations ``(T, C, N)`` of net inputs ``(T, C, N)``."""
        if len(self.activations) == 1:
            return activation(self.activations[0]).value(net)
        values = torch.empty_like(net)
        for index, name in enumerate(self.activations):
            chosen = members % len(self.activations) == index
            values[chosen] = activation(name).value(net[chosen])
        return values

    def derivative(self, net: Tensor, values: Tensor, members: Tensor) -> Tensor:
        """The derivatives of the activation functions at net inputs ``(T, C, N)``."""
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
    """Uniform float64 draws between minus and plus ``weight_range``."""
    draws = torch.rand(*shape, dtype=torch.float64, generator=generator)
    return (2 * draws - 1) * weight_range
