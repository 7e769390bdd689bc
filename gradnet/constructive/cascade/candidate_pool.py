"""A fresh pool of candidates for each trial: their weights, and what they see.

Letters: see :mod:`gradnet.constructive.cascade.candidates`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gradnet.constructive.cascade.candidates import Units
from gradnet.constructive.cascade.settings import CascadeSettings
from gradnet.core.reproducibility import make_generator


@dataclass(frozen=True)
class Pool:
    """The candidates of a batch of trials, before their training.

    Attributes:
        groups: one a kind.
        weights: of each group, ``(T, C, W)``.
        visible: the columns that each candidate sees ``(T, C, I)``, true or false, for
            all groups together; None where all see all.
        multipliers: of the scores ``(C,)``, for all groups together.
    """

    groups: Sequence[Units]
    weights: Sequence[Tensor]
    visible: Tensor | None
    multipliers: Tensor

    def connected(self) -> list[Tensor | None]:
        """Of each group, which weights there are ``(T, C, W)``; None for all."""
        if self.visible is None:
            return [None] * len(self.groups)
        parts = self.visible.split([units.count for units in self.groups], 1)
        pairs = zip(self.groups, parts, strict=True)
        return [units.connections(part) for units, part in pairs]

    def connections(self) -> list[Tensor]:
        """How many weights there are, of each group ``(T, C)``."""
        pairs = zip(self.connected(), self.weights, strict=True)
        return [
            (torch.ones_like(weights) if some is None else some).long().sum(2)
            for some, weights in pairs
        ]


def make_pool(
    groups: Sequence[Units],
    settings: CascadeSettings,
    seeds: Sequence[int],
    layers: Tensor,
    columns: Tensor,
) -> Pool:
    """Draw a pool; each trial's is a function of its seed and the number of columns.

    Args:
        groups: the kinds.
        settings: how they are connected and initialized.
        seeds: of the trials.
        layers: of each column ``(T, I)``; 0 for the bias and the inputs.
        columns: ``(T, I, N)``.
    """
    count = sum(units.count for units in groups)
    number = columns.shape[1]
    drawn: list[list[Tensor]] = [[] for _ in groups]
    visible = _visible(groups, settings, layers)
    subsets = []
    for seed in seeds:
        generator = make_generator("candidates", seed, number)
        for units, found in zip(groups, drawn, strict=True):
            found.append(
                units.initial_weights(number, settings.weight_range, generator)
            )
        if settings.fan_in is not None:
            subsets.append(torch.rand(count, number, generator=generator))
    if settings.fan_in is not None:
        order = torch.stack(subsets).to(columns)
        if visible is not None:
            order = torch.where(visible, order, 2.0)
        order[:, :, 0] = -1.0  # the bias is always seen
        chosen = order.argsort(2).argsort(2) <= settings.fan_in
        visible = chosen if visible is None else chosen & visible
    multipliers = columns.new_ones(count)
    if settings.connections == "siblings" and bool((layers > 0).any()):
        multipliers[~_siblings(groups)] = settings.descendant_multiplier
    return Pool(
        groups,
        [torch.stack(weights).to(columns) for weights in drawn],
        visible,
        multipliers,
    )


def _visible(
    groups: Sequence[Units], settings: CascadeSettings, layers: Tensor
) -> Tensor | None:
    """The columns ``(T, C, I)`` that there are connections to."""
    count = sum(units.count for units in groups)
    if settings.connections == "cascade" or not bool((layers > 0).any()):
        return None
    if settings.connections == "flat":
        return (layers == 0)[:, None].repeat(1, count, 1)
    below = (layers < layers.amax(1, keepdim=True))[:, None]
    return below | ~_siblings(groups).to(layers.device)[:, None]


def _siblings(groups: Sequence[Units]) -> Tensor:
    """Which candidates join the deepest layer: the first half of each group."""
    halves = [torch.arange(units.count) < units.count // 2 for units in groups]
    return torch.cat(halves)
