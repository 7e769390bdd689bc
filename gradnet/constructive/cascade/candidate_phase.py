"""The training of a cascade's candidates, for a batch of trials at once.

Letters as in :mod:`gradnet.constructive.cascade.candidates`, and
``K`` outputs of the network.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gradnet.constructive.cascade.candidate_pool import Pool
from gradnet.constructive.cascade.candidates import Units
from gradnet.constructive.cascade.criteria import Covariance, Criterion, ErrorReduction
from gradnet.constructive.cascade.output_phase import Goal, Patience, is_worth_dropping
from gradnet.constructive.cascade.settings import PhaseSettings
from gradnet.constructive.quickprop import QuickpropWeights


@dataclass(frozen=True)
class CandidatePhase:
    """The best candidate of each trial.

    Attributes:
        group: ``(T,)``, its group.
        member: ``(T,)``, its index in the group.
        weights: ``(T, W)`` of each group, of no meaning where the best is of another.
        output_weights: ``(T, M, K)`` with the largest ``M``, zero-padded.
        epochs: ``(T,)``.
        scores: of the best, after multiplication, ``(T, epochs)``, NaN after the end.
    """

    group: Tensor
    member: Tensor
    weights: list[Tensor]
    output_weights: Tensor
    epochs: Tensor
    scores: Tensor


class _Group:
    """Candidates of one kind in training."""

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

    def observe(self, columns: Tensor) -> None:
        """The epoch that only takes the correlations."""
        values, _ = self.units.forward(self.weights.values, columns, self.members)
        self.criterion.observe(values)

    def train_epoch(self, columns: Tensor, settings: PhaseSettings) -> Tensor:
        """One step; the scores ``(T, C)`` are those before it."""
        weights = self.weights.values
        values, pullback = self.units.forward(weights, columns, self.members)
        slopes = pullback(self.criterion.cotangents(values))
        if self.connected is not None:
            slopes = slopes * self.connected
        self.weights.descend(slopes, self.rate, settings.growth, settings.decay)
        return self.criterion.observe(values)

    def keep(self, trials: Tensor) -> None:
        """Go on with these trials only."""
        self.weights.keep(trials)
        self.criterion.keep(trials)
        self.members = self.members[trials]
        if self.connected is not None:
            self.connected = self.connected[trials]
        if isinstance(self.rate, Tensor):
            self.rate = self.rate[trials]


def train_candidates(
    pool: Pool, columns: Tensor, residual: Tensor, goal: Goal
) -> CandidatePhase:
    """Train a pool of candidates for each trial, and find the best of each.

    Args:
        pool: the candidates.
        columns: ``(T, I, N)``.
        residual: ``(T, K, N)``, see :meth:`Goal.compare`.
        goal: how the network is trained.
    """
    settings = goal.settings.candidates
    training = _make_groups(pool, columns, residual, goal)
    trials = torch.arange(len(columns), device=columns.device)
    patience, running = Patience(settings), torch.ones_like(trials, dtype=torch.bool)
    outputs = max(units.outputs for units in pool.groups)
    found = CandidatePhase(
        group=torch.zeros_like(trials),
        member=torch.zeros_like(trials),
        weights=[torch.zeros_like(weights[:, 0]) for weights in pool.weights],
        output_weights=columns.new_zeros(len(columns), outputs, residual.shape[1]),
        epochs=torch.zeros_like(trials),
        scores=columns.new_full((len(columns), settings.epochs), torch.nan),
    )
    for group in training:
        group.observe(columns)
    for epoch in range(settings.epochs):
        parts = [group.train_epoch(columns, settings) for group in training]
        scores = torch.nan_to_num(torch.cat(parts, 1) * pool.multipliers, nan=-1.0)
        best, winners = scores.max(1)
        found.scores[trials[running], epoch] = best[running]
        ends = patience.is_worn_out(best) | (epoch == settings.epochs - 1)
        if not (ends := ends & running).any():
            continue
        found.epochs[trials[ends]] = epoch + 2  # the correlations' own epoch counts
        _record(found, training, trials, winners, ends)
        running = running & ~ends
        if is_worth_dropping(running):
            patience.keep(running)
            for group in training:
                group.keep(running)
            trials, columns = trials[running], columns[running]
            running = running[running]
        if not len(trials):
            break
    return replace(found, scores=found.scores[:, : epoch + 1])


def _make_groups(
    pool: Pool, columns: Tensor, residual: Tensor, goal: Goal
) -> list[_Group]:
    settings, (_, seen, samples) = goal.settings, columns.shape
    rate = settings.candidates.rate / samples
    rates: list[float | Tensor] = [rate / seen] * len(pool.groups)
    if pool.visible is not None:
        sizes = [units.count for units in pool.groups]
        visible = pool.visible.sum(2, keepdim=True).to(columns)
        rates = list((rate / visible).split(sizes, 1))
    groups = []
    for units, weights, connected, own_rate in zip(
        pool.groups, pool.weights, pool.connected(), rates, strict=True
    ):
        criterion: Criterion = Covariance(residual, goal.judged)
        if settings.criterion == "error":
            of_outputs = settings.outputs.rate / samples
            growth = settings.outputs.growth
            criterion = ErrorReduction(residual, goal.judged, of_outputs, growth)
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
    """Note the winners ``(T,)``, counted over all groups, of the trials that end."""
    first = 0
    for number, group in enumerate(training):
        count, outputs = group.units.count, group.units.outputs
        mine = ends & (winners >= first) & (winners < first + count)
        at, member = trials[mine], winners[mine] - first
        found.group[at], found.member[at] = number, member
        found.weights[number][at] = group.weights.values[mine, member]
        found.output_weights[at, :outputs] = group.criterion.output_weights[
            mine, member
        ]
        first += count
