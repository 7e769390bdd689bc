"""The training of candidate units, for a batch of trials at once.

Letters as in :mod:`gradnet.constructive.cascade.candidates`, and
``K`` outputs of the network.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gradnet.constructive.cascade.candidate_pool import CandidatePool
from gradnet.constructive.cascade.candidates import Units
from gradnet.constructive.cascade.criteria import Covariance, Criterion, ErrorReduction
from gradnet.constructive.cascade.output_phase import Objective, Patience, should_shrink
from gradnet.constructive.cascade.settings import PhaseSettings
from gradnet.constructive.quickprop import QuickpropWeights


@dataclass(frozen=True)
class CandidatePhase:
    """The best candidate of each trial, after training.

    Attributes:
        group: index of its group, ``(T,)``.
        member: its index in the group, ``(T,)``.
        weights: for each group ``(T, W)``; undefined for trials whose best candidate is
            in another group.
        output_weights: its initial weights to the outputs, ``(T, M, K)``, zero-padded
            to the largest ``M``.
        epochs: number of epochs, ``(T,)``.
        scores: of the best candidate in each epoch, after multiplication by
            ``CandidatePool.multipliers``, ``(T, epochs)``; NaN after a trial has ended.
    """

    group: Tensor
    member: Tensor
    weights: list[Tensor]
    output_weights: Tensor
    epochs: Tensor
    scores: Tensor


class _Group:
    """The candidates of one kind while they are trained."""

    def __init__(
        self,
        units: Units,
        weights: Tensor,
        connected: Tensor | None,
        criterion: Criterion,
        rate: float | Tensor,
    ) -> None:
        self.units, self.criterion = units, criterion
        self.members = torch.arange(units.count, device=weights.device)
        self.members = self.members.expand(weights.shape[:2])
        self.rate, self.connected = rate, connected
        if connected is not None:
            weights = weights * connected
        self.weights = QuickpropWeights.start(weights)

    def initialize(self, features: Tensor) -> None:
        """The first epoch, which computes scores and makes no step."""
        values, _ = self.units.forward(self.weights.values, features, self.members)
        self.criterion.score(values)

    def train_epoch(self, features: Tensor, settings: PhaseSettings) -> Tensor:
        """Make one step; returns the scores ``(T, C)`` before it."""
        weights = self.weights.values
        values, pullback = self.units.forward(weights, features, self.members)
        slopes = pullback(self.criterion.cotangents(values))
        if self.connected is not None:
            slopes = slopes * self.connected
        self.weights.descend(slopes, self.rate, settings.growth, settings.decay)
        return self.criterion.score(values)

    def select(self, trials: Tensor) -> None:
        """Drop all trials but these, given by index or mask."""
        self.weights.select(trials)
        self.criterion.select(trials)
        self.members = self.members[trials]
        if self.connected is not None:
            self.connected = self.connected[trials]
        if isinstance(self.rate, Tensor):
            self.rate = self.rate[trials]


def train_candidates(
    pool: CandidatePool, features: Tensor, residual: Tensor, objective: Objective
) -> CandidatePhase:
    """Train a pool of candidates for each trial, and find the best of each trial.

    A trial ends when its best score has stopped changing, or after the last epoch.

    Args:
        pool: the candidates, with initial weights.
        features: what the candidates see, ``(T, I, N)``.
        residual: what they are trained on, ``(T, K, N)``, see
            :meth:`~gradnet.constructive.cascade.output_phase.Objective.residuals`.
        objective: the targets and settings of the network.

    Returns:
        The best candidate of each trial.
    """
    settings = objective.settings.candidates
    training = _make_groups(pool, features, residual, objective)
    trials = torch.arange(len(features), device=features.device)
    patience, running = Patience(settings), torch.ones_like(trials, dtype=torch.bool)
    outputs = max(units.outputs for units in pool.groups)
    found = CandidatePhase(
        group=torch.zeros_like(trials),
        member=torch.zeros_like(trials),
        weights=[torch.zeros_like(weights[:, 0]) for weights in pool.weights],
        output_weights=features.new_zeros(len(features), outputs, residual.shape[1]),
        epochs=torch.zeros_like(trials),
        scores=features.new_full((len(features), settings.epochs), torch.nan),
    )
    for group in training:
        group.initialize(features)
    for epoch in range(settings.epochs):
        by_group = [group.train_epoch(features, settings) for group in training]
        scores = torch.nan_to_num(torch.cat(by_group, 1) * pool.multipliers, nan=-1.0)
        best, winners = scores.max(1)
        found.scores[trials[running], epoch] = best[running]
        ends = patience.update(best) | (epoch == settings.epochs - 1)
        if not (ends := ends & running).any():
            continue
        found.epochs[trials[ends]] = epoch + 2  # the first epoch counts too
        _record(found, training, trials, winners, ends)
        running = running & ~ends
        if should_shrink(running):
            patience.select(running)
            for group in training:
                group.select(running)
            trials, features = trials[running], features[running]
            running = running[running]
        if not len(trials):
            break
    return replace(found, scores=found.scores[:, : epoch + 1])


def _make_groups(
    pool: CandidatePool, features: Tensor, residual: Tensor, objective: Objective
) -> list[_Group]:
    settings, (_, seen, samples) = objective.settings, features.shape
    rate = settings.candidates.rate / samples
    rates: list[float | Tensor] = [rate / seen] * len(pool.groups)
    if pool.visible is not None:
        sizes = [units.count for units in pool.groups]
        visible = pool.visible.sum(2, keepdim=True).to(features)
        rates = list((rate / visible).split(sizes, 1))
    groups = []
    for units, weights, connected, own_rate in zip(
        pool.groups, pool.weights, pool.connection_masks(), rates, strict=True
    ):
        criterion: Criterion = Covariance(residual, objective.mask)
        if settings.criterion == "error":
            output_rate = settings.outputs.rate / samples
            growth = settings.outputs.growth
            criterion = ErrorReduction(residual, objective.mask, output_rate, growth)
        if connected is not None:
            connected = connected.to(weights)
        groups.append(_Group(units, weights, connected, criterion, own_rate))
    return groups


def _record(
    found: CandidatePhase,
    training: Sequence[_Group],
    trials: Tensor,
    winners: Tensor,
    ends: Tensor,
) -> None:
    """Store the winners of the trials that end, in place.

    Args:
        found: where to.
        training: the groups.
        trials: indices in ``found`` of the trials in the batch, ``(A,)``.
        winners: index of the best candidate over all groups, ``(A,)``.
        ends: which of them end, bool ``(A,)``.
    """
    first = 0
    for number, group in enumerate(training):
        count, outputs = group.units.count, group.units.outputs
        here = ends & (winners >= first) & (winners < first + count)
        at, member = trials[here], winners[here] - first
        found.group[at], found.member[at] = number, member
        found.weights[number][at] = group.weights.values[here, member]
        found.output_weights[at, :outputs] = group.criterion.output_weights[
            here, member
        ]
        first += count
