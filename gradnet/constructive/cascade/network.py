"""The networks of a batch of trials that grew by cascade-correlation.

Letters as in :mod:`gradnet.constructive.cascade.candidates`, and ``K`` outputs of the
network, ``D`` inputs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from gradnet.constructive.cascade.candidates import Units
from gradnet.models.activations import activation


@dataclass(frozen=True)
class HiddenUnit:
    """The hidden unit that one round added to each trial; its weights are frozen.

    Attributes:
        group: index of the group of candidates that it came from, ``(T,)``; -1 for
            trials that had ended.
        member: its index in the group, ``(T,)``.
        weights: for each group ``(T, W)``; undefined for units from other groups.
        layer: its layer, counted from 1, ``(T,)``.
        connections: number of its incoming connections, ``(T,)``.
    """

    group: Tensor
    member: Tensor
    weights: list[Tensor]
    layer: Tensor
    connections: Tensor

    def values(self, groups: Sequence[Units], features: Tensor) -> Tensor:
        """The unit's outputs.

        Args:
            groups: the kinds of candidates.
            features: ``(T, I, N)``.

        Returns:
            ``(T, M, N)`` with the largest ``M``; zero for trials without the unit.
        """
        trials, _, samples = features.shape
        outputs = max(units.outputs for units in groups)
        values = features.new_zeros(trials, outputs, samples)
        for number, units in enumerate(groups):
            here = self.group == number
            if here.any():
                weights, member = self.weights[number][here], self.member[here]
                found, _ = units.forward(
                    weights[:, None], features[here], member[:, None]
                )
                values[here, : units.outputs] = found[:, 0]
        return values

    def scatter(self, trials: Tensor, total: int) -> "HiddenUnit":
        """The units of ``trials``, at their indices among ``total`` trials."""
        return HiddenUnit(
            scatter_trials(self.group, trials, total, -1),
            scatter_trials(self.member, trials, total, 0),
            [scatter_trials(weights, trials, total, 0.0) for weights in self.weights],
            scatter_trials(self.layer, trials, total, 0),
            scatter_trials(self.connections, trials, total, 0),
        )


@dataclass
class CascadeNetwork:
    """Networks of ``T`` trials, with their output weights after each round.

    Attributes:
        groups: the kinds of candidates that hidden units come from.
        output: activation function of the outputs.
        rounds: output weights ``(T, K, I)`` after each round, the first without hidden
            units; zero for trials that had ended before it.
        units: the hidden units, one for each round after the first.
        hidden: number of hidden units of each trial, ``(T,)``; setting a smaller number
            restores the network of an earlier round.
    """

    groups: Sequence[Units]
    output: Literal["sigmoid", "linear"]
    rounds: list[Tensor] = field(default_factory=list)
    units: list[HiddenUnit] = field(default_factory=list)
    hidden: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))

    def features(self, inputs: Tensor, units: int | None = None) -> Tensor:
        """The features that output units see: bias, inputs and hidden units.

        Args:
            inputs: ``(N, D)``.
            units: maximum number of hidden units; None for all.

        Returns:
            ``(T, I, N)``.
        """
        features = input_features(inputs).expand(len(self.hidden), -1, -1)
        for unit in self.units[:units]:
            features = torch.cat([features, unit.values(self.groups, features)], 1)
        return features

    def output_weights(self, units: int | None = None) -> Tensor:
        """The weights of the outputs.

        Args:
            units: maximum number of hidden units; None for all.

        Returns:
            ``(T, K, I)``, zero for hidden units that a trial does not have.
        """
        rounds = self.rounds if units is None else self.rounds[: units + 1]
        weights = torch.zeros_like(rounds[-1])
        last = self.hidden.clamp(max=len(rounds) - 1)
        for number, found in enumerate(rounds):
            here = last == number
            weights[here, :, : found.shape[2]] = found[here]
        return weights

    @torch.no_grad()
    def __call__(self, inputs: Tensor, units: int | None = None) -> Tensor:
        """The outputs of every trial.

        Args:
            inputs: ``(N, D)``.
            units: maximum number of hidden units; None for all.

        Returns:
            ``(T, N, K)``.
        """
        net = self.output_weights(units) @ self.features(inputs, units)
        return activation(self.output).value(net).mT

    def depth(self) -> Tensor:
        """The number of layers of hidden units of each trial, ``(T,)``."""
        depth = torch.zeros_like(self.hidden)
        for number, unit in enumerate(self.units):
            depth = torch.where(self.hidden > number, depth.maximum(unit.layer), depth)
        return depth


def input_features(inputs: Tensor) -> Tensor:
    """A bias of 1 and the inputs ``(N, D)``, as features ``(1, 1 + D, N)``."""
    return torch.cat([torch.ones_like(inputs[:, :1]), inputs], 1).T[None].contiguous()


def scatter_trials(values: Tensor, trials: Tensor, total: int, empty: float) -> Tensor:
    """Values of some trials ``(A, ...)`` at their indices among all ``(T, ...)``.

    Args:
        values: ``(A, ...)``.
        trials: their indices, ``(A,)``.
        total: ``T``.
        empty: the value for all other trials.
    """
    result = values.new_full((total, *values.shape[1:]), empty)
    result[trials] = values
    return result
