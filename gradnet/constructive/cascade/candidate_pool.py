"""A pool of candidate units for each trial: initial weights and connections.

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
class CandidatePool:
    """The candidates of a batch of trials, before their training.

    Attributes:
        groups: one for each kind of candidate.
        weights: initial weights of each group, ``(T, C, W)``.
        visible: which features each candidate is connected to, bool ``(T, C, I)``, for
            all groups together; None if all are connected to all.
        multipliers: factors of the scores ``(C,)``, for all groups together.
    """

    groups: Sequence[Units]
    weights: Sequence[Tensor]
    visible: Tensor | None
    multipliers: Tensor

    def connection_masks(self) -> list[Tensor | None]:
        """For each group, which weights exist, bool ``(T, C, W)``; None for all."""
        if self.visible is None:
            return [None] * len(self.groups)
        by_group = self.visible.split([units.count for units in self.groups], 1)
        pairs = zip(self.groups, by_group, strict=True)
        return [units.connection_mask(visible) for units, visible in pairs]

    def count_connections(self) -> list[Tensor]:
        """For each group, the number of weights of each candidate, ``(T, C)``."""
        pairs = zip(self.connection_masks(), self.weights, strict=True)
        return [
            (torch.ones_like(weights) if mask is None else mask).long().sum(2)
            for mask, weights in pairs
        ]


def make_pool(
    groups: Sequence[Units],
    settings: CascadeSettings,
    seeds: Sequence[int],
    layers: Tensor,
    features: Tensor,
) -> CandidatePool:
    """Draw a pool; a trial's depends only on its seed and the number of features.

    Args:
        groups: the kinds of candidates.
        settings: how they are connected and initialized.
        seeds: one for each trial.
        layers: the layer of each feature ``(T, I)``; 0 for the bias and the inputs.
        features: what candidates may see, ``(T, I, N)``.

    Returns:
        The pool, on the device and of the dtype of the features.
    """
    count = sum(units.count for units in groups)
    number = features.shape[1]
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
        order = torch.stack(subsets).to(features)
        if visible is not None:
            order = torch.where(visible, order, 2.0)
        order[:, :, 0] = -1.0  # always connected to the bias
        chosen = order.argsort(2).argsort(2) <= settings.fan_in
        visible = chosen if visible is None else chosen & visible
    multipliers = features.new_ones(count)
    if settings.connections == "siblings" and bool((layers > 0).any()):
        multipliers[~_siblings(groups)] = settings.descendant_multiplier
    return CandidatePool(
        groups,
        [torch.stack(weights).to(features) for weights in drawn],
        visible,
        multipliers,
    )


def _visible(
    groups: Sequence[Units], settings: CascadeSettings, layers: Tensor
) -> Tensor | None:
    """Which features candidates may be connected to, bool ``(T, C, I)``."""
    count = sum(units.count for units in groups)
    if settings.connections == "cascade" or not bool((layers > 0).any()):
        return None
    if settings.connections == "flat":
        return (layers == 0)[:, None].repeat(1, count, 1)
    below = (layers < layers.amax(1, keepdim=True))[:, None]
    return below | ~_siblings(groups).to(layers.device)[:, None]


def _siblings(groups: Sequence[Units]) -> Tensor:
    """Which candidates would join the deepest layer: the first half of each group."""
    halves = [torch.arange(units.count) < units.count // 2 for units in groups]
    return torch.cat(halves)
