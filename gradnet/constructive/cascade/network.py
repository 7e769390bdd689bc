"""The networks of a batch of trials that grew by cascade-correlation.

Letters as in :mod:`gradnet.constructive.cascade.candidates`, and
``K`` outputs of the network, ``D``
inputs.
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
    """The unit that a round gave to each trial; its weights never change.

    Attributes:
        group: of candidates that it came from, ``(T,)``; -1 where there is none.
        member: its index in the group, ``(T,)``.
        weights: of each group, ``(T, W)``, of no meaning for other groups' units.
        layer: ``(T,)``, counted from 1.
        connections: ``(T,)``, its incoming ones.
    """

    group: Tensor
    member: Tensor
    weights: list[Tensor]
    layer: Tensor
    connections: Tensor

    def values(self, groups: Sequence[Units], columns: Tensor) -> Tensor:
        """What it computes ``(T, M, N)`` of ``(T, I, N)``; zero where there is none."""
        trials, _, samples = columns.shape
        outputs = max(units.outputs for units in groups)
        values = columns.new_zeros(trials, outputs, samples)
        for number, units in enumerate(groups):
            mine = self.group == number
            if mine.any():
                weights, member = self.weights[number][mine], self.member[mine]
                found, _ = units.forward(
                    weights[:, None], columns[mine], member[:, None]
                )
                values[mine, : units.outputs] = found[:, 0]
        return values

    def spread(self, trials: Tensor, total: int) -> "HiddenUnit":
        """Units of some of ``total`` trials, as those of all."""
        return HiddenUnit(
            spread(self.group, trials, total, -1),
            spread(self.member, trials, total, 0),
            [spread(weights, trials, total, 0.0) for weights in self.weights],
            spread(self.layer, trials, total, 0),
            spread(self.connections, trials, total, 0),
        )


@dataclass
class CascadeNetwork:
    """Networks of ``T`` trials, as they are and as they were after each round.

    Attributes:
        groups: the kinds of their units.
        output: activation of the outputs.
        rounds: output weights ``(T, K, I)`` after each round; zero for trials that
            had ended before it.
        units: one a round.
        hidden: units of each trial ``(T,)``; fewer than there are take it back to an
            earlier round.
    """

    groups: Sequence[Units]
    output: Literal["sigmoid", "linear"]
    rounds: list[Tensor] = field(default_factory=list)
    units: list[HiddenUnit] = field(default_factory=list)
    hidden: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))

    def columns(self, inputs: Tensor, units: int | None = None) -> Tensor:
        """What output units see, ``(T, I, N)``.

        Args:
            inputs: ``(N, D)``.
            units: hidden units at most; None for all.
        """
        columns = first_columns(inputs).expand(len(self.hidden), -1, -1)
        for unit in self.units[:units]:
            columns = torch.cat([columns, unit.values(self.groups, columns)], 1)
        return columns

    def output_weights(self, units: int | None = None) -> Tensor:
        """The weights of the outputs, ``(T, K, I)``, zero for units that are not there.

        Args:
            units: hidden units at most; None for all.
        """
        rounds = self.rounds if units is None else self.rounds[: units + 1]
        weights = torch.zeros_like(rounds[-1])
        last = self.hidden.clamp(max=len(rounds) - 1)
        for number, found in enumerate(rounds):
            mine = last == number
            weights[mine, :, : found.shape[2]] = found[mine]
        return weights

    @torch.no_grad()
    def __call__(self, inputs: Tensor, units: int | None = None) -> Tensor:
        """The outputs of every trial, ``(T, N, K)``.

        Args:
            inputs: ``(N, D)``.
            units: hidden units at most; None for all.
        """
        net = self.output_weights(units) @ self.columns(inputs, units)
        return activation(self.output).value(net).mT

    def depth(self) -> Tensor:
        """The deepest layer of each trial's hidden units, ``(T,)``."""
        depth = torch.zeros_like(self.hidden)
        for number, unit in enumerate(self.units):
            depth = torch.where(self.hidden > number, depth.maximum(unit.layer), depth)
        return depth


def first_columns(inputs: Tensor) -> Tensor:
    """The bias and the inputs ``(N, D)``, as ``(1, 1 + D, N)``."""
    return torch.cat([torch.ones_like(inputs[:, :1]), inputs], 1).T[None].contiguous()


def spread(values: Tensor, trials: Tensor, total: int, empty: float) -> Tensor:
    """Values of some trials ``(A, ...)`` at their indices ``(T, ...)``."""
    result = values.new_full((total, *values.shape[1:]), empty)
    result[trials] = values
    return result
