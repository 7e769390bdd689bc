"""Cascade-correlation (Fahlman and Lebiere 1990), all trials of a study as one batch.

S. E. Fahlman and C. Lebiere, The cascade-correlation learning architecture, NIPS 2,
1990. Output weights and candidate units are trained in turn by full-batch quickprop,
all trials and candidates at once; the best candidate is frozen and becomes a hidden
unit. As in the paper, and unlike in Fahlman's Lisp program, residuals are centered for
each output separately.

Letters as in :mod:`gradnet.constructive.cascade.candidates`, and
``K`` outputs of the network, ``D`` inputs, ``A`` trials that are still running.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gradnet.constructive.cascade.candidate_phase import (
    CandidatePhase,
    train_candidates,
)
from gradnet.constructive.cascade.candidate_pool import CandidatePool, make_pool
from gradnet.constructive.cascade.candidates import PlainUnits, Units, uniform
from gradnet.constructive.cascade.network import (
    CascadeNetwork,
    HiddenUnit,
    input_features,
    scatter_trials,
)
from gradnet.constructive.cascade.output_phase import Objective, train_outputs
from gradnet.constructive.cascade.settings import CascadeSettings
from gradnet.constructive.trial_samples import check_samples
from gradnet.core.reproducibility import make_generator
from gradnet.core.threads import for_each_piece

# Up to this many candidate values, operations are too short to gain from several
# threads: with one of two cores busy, a hundred trials of two spirals took ten times as
# long on two threads as on one.
MAX_FOR_ONE_CORE = 1_000_000


@dataclass
class CascadeResult:
    """Results of all trials.

    Attributes:
        network: the networks, see
            :class:`~gradnet.constructive.cascade.network.CascadeNetwork`.
        solved: bool ``(T,)``. For an unsolved trial, the other numbers are only lower
            bounds.
        output_epochs: number of epochs of output training, ``(T,)``.
        candidate_epochs: number of epochs of candidate training, ``(T,)``.
        crossings: Fahlman's measure of cost, connection crossings in the forward pass
            ``(T,)``: one for each trained weight, sample and epoch.
        errors: sums of squared errors of each output phase ``(T, epochs)``; NaN where a
            trial was not trained.
        scores: of the best candidates in each candidate phase ``(T, epochs)``; NaN
            where a trial was not trained.
    """

    network: CascadeNetwork
    solved: Tensor
    output_epochs: Tensor
    candidate_epochs: Tensor
    crossings: Tensor
    errors: list[Tensor] = field(default_factory=list)
    scores: list[Tensor] = field(default_factory=list)

    @property
    def hidden_units(self) -> Tensor:
        """Number of hidden units of each trial, ``(T,)``."""
        return self.network.hidden

    @property
    def epochs(self) -> Tensor:
        """Number of epochs of both phases, ``(T,)``."""
        return self.output_epochs + self.candidate_epochs

    @property
    def depth(self) -> Tensor:
        """Number of layers of hidden units of each trial, ``(T,)``."""
        return self.network.depth()

    def summary(self) -> dict[str, float]:
        """Statistics over the trials.

        Returns:
            Numbers of ``trials``, ``solved`` and ``failed`` ones, and over the solved
            ones the ``mean``, ``median``, ``least`` and ``most`` of ``hidden`` (units),
            ``epochs``, ``depth`` and ``crossings``, as ``hidden_mean`` and so on; NaN
            if none is solved.
        """
        solved = self.solved
        numbers: dict[str, float] = {
            "trials": len(solved),
            "solved": int(solved.sum()),
            "failed": int((~solved).sum()),
        }
        for name, values in (
            ("hidden", self.hidden_units),
            ("epochs", self.epochs),
            ("depth", self.depth),
            ("crossings", self.crossings),
        ):
            found = values[solved].double()
            if not len(found):
                found = torch.full((1,), torch.nan)
            numbers[f"{name}_mean"] = found.mean().item()
            numbers[f"{name}_median"] = found.quantile(0.5).item()
            numbers[f"{name}_least"] = found.min().item()
            numbers[f"{name}_most"] = found.max().item()
        return numbers


@torch.no_grad()
def cascade_correlation(
    inputs: Tensor,
    targets: Tensor,
    settings: CascadeSettings | None = None,
    *,
    seeds: Sequence[int] = (0,),
    groups: Sequence[Units] | None = None,
    should_stop: Callable[[CascadeNetwork], Tensor] | None = None,
) -> CascadeResult:
    """Grow one network for each seed, all in one batch.

    Trials are independent of each other, up to rounding, which long runs magnify.

    Args:
        inputs: ``(N, D)``; their device and dtype are used throughout. Quickprop needs
            float64.
        targets: ``(N, K)``; -0.5 and 0.5 for sigmoid outputs; NaN where a target is
            missing.
        settings: see :class:`~gradnet.constructive.cascade.settings.CascadeSettings`;
            None for the defaults.
        seeds: one for each trial.
        groups: kinds of candidates; None for a pool of
            :class:`~gradnet.constructive.cascade.candidates.PlainUnits`.
        should_stop: called after each output phase with the networks so far; returns
            which trials end, bool ``(T,)``.

    Returns:
        The networks, and how each trial went.

    Raises:
        InvalidInputError: the shapes of the samples do not match, or there are none.

    Example:
        >>> import torch
        >>> inputs = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]]).double()
        >>> xor = torch.tensor([[-0.5], [0.5], [0.5], [-0.5]]).double()
        >>> result = cascade_correlation(inputs, xor, seeds=[0, 1])
        >>> result.solved
        tensor([True, True])
    """
    settings = settings or CascadeSettings()
    check_samples(inputs, targets, seeds)
    pool = groups or [PlainUnits(settings.pool, settings.activations)]
    run = _Run(inputs, targets, settings, seeds, pool)
    values = len(seeds) * sum(units.count for units in pool) * len(inputs)
    if inputs.device.type == "cpu" and values <= MAX_FOR_ONE_CORE:
        for_each_piece(lambda run: run.grow(should_stop), [run])
    else:
        run.grow(should_stop)
    return run.result


class _Run:
    """The trials that are still running, and the result so far."""

    def __init__(
        self,
        inputs: Tensor,
        targets: Tensor,
        settings: CascadeSettings,
        seeds: Sequence[int],
        groups: Sequence[Units],
    ) -> None:
        self.settings, self.seeds, self.groups = settings, seeds, groups
        mask = (~targets.T.isnan()).to(inputs)
        self.objective = Objective(targets.T.nan_to_num().to(inputs), mask, settings)
        self.trials = torch.arange(len(seeds), device=inputs.device)
        zeros = torch.zeros_like(self.trials)
        network = CascadeNetwork(groups, settings.output, hidden=zeros.clone())
        self.result = CascadeResult(
            network, zeros > 0, zeros.clone(), zeros.clone(), zeros.clone()
        )
        self.features = input_features(inputs).repeat(len(seeds), 1, 1)
        self.layers = zeros[:, None].repeat(1, self.features.shape[1])
        shape = (targets.shape[1], self.features.shape[1])
        draws = [
            uniform(shape, settings.weight_range, make_generator("outputs", seed))
            for seed in seeds
        ]
        self.weights = torch.stack(draws).to(inputs)

    @property
    def network(self) -> CascadeNetwork:
        return self.result.network

    def grow(self, should_stop: Callable[[CascadeNetwork], Tensor] | None) -> None:
        """Train and add units until every trial has ended."""
        for units in range(self.settings.max_units + 1):
            self.train_outputs()
            self.drop(should_stop)
            if units == self.settings.max_units or not len(self.trials):
                return
            self.add_unit()

    def train_outputs(self) -> None:
        phase = train_outputs(self.weights, self.features, self.objective)
        self.weights = phase.weights
        result, trials = self.result, self.trials
        result.solved[trials] = phase.solved
        result.output_epochs[trials] += phase.epochs
        crossed = self.weights[0].numel() * self.features.shape[2]
        result.crossings[trials] += phase.epochs * crossed
        result.errors.append(self._scatter(phase.errors, torch.nan))
        self.network.rounds.append(self._scatter(phase.weights, 0.0))

    def drop(self, should_stop: Callable[[CascadeNetwork], Tensor] | None) -> None:
        """Drop the trials that are solved or that ``should_stop`` ends."""
        running = ~self.result.solved
        if should_stop is not None:
            running &= ~should_stop(self.network)
        running = running[self.trials]
        self.trials, self.features = self.trials[running], self.features[running]
        self.layers, self.weights = self.layers[running], self.weights[running]

    def add_unit(self) -> None:
        """Train candidates and install the best of each trial."""
        seeds = [self.seeds[trial] for trial in self.trials.tolist()]
        pool = make_pool(self.groups, self.settings, seeds, self.layers, self.features)
        differences, residual = self.objective.residuals(self.weights, self.features)
        if self.settings.raw_residual:
            residual = differences
        phase = train_candidates(pool, self.features, residual, self.objective)
        result, trials, samples = self.result, self.trials, self.features.shape[2]
        crossed = sum(c.sum(1) for c in pool.count_connections()) * samples
        result.candidate_epochs[trials] += phase.epochs
        result.crossings[trials] += phase.epochs * crossed
        result.scores.append(self._scatter(phase.scores, torch.nan))
        self._install(self._unit(pool, phase), phase.output_weights)

    def _install(self, unit: HiddenUnit, output_weights: Tensor) -> None:
        values = unit.values(self.groups, self.features)
        self.features = torch.cat([self.features, values], 1)
        new_layers = unit.layer[:, None].expand(-1, values.shape[1])
        self.layers = torch.cat([self.layers, new_layers], 1)
        new_weights = output_weights.mT * self.settings.weight_multiplier
        self.weights = torch.cat([self.weights, new_weights], 2)
        self.network.units.append(unit.scatter(self.trials, len(self.seeds)))
        self.network.hidden[self.trials] += 1

    def _unit(self, pool: CandidatePool, phase: CandidatePhase) -> HiddenUnit:
        """The best candidates, in the layer above the deepest that they see."""
        sizes = [units.count for units in self.groups]
        first = torch.tensor([0, *sizes]).cumsum(0)[:-1].to(phase.group)
        index = (first[phase.group] + phase.member)[:, None]
        connections = torch.cat(pool.count_connections(), 1).gather(1, index)[:, 0]
        below = self.layers
        if pool.visible is not None:
            trials = torch.arange(len(index), device=index.device)
            below = below * pool.visible[trials, index[:, 0]]
        layer = below.amax(1) + 1
        return HiddenUnit(phase.group, phase.member, phase.weights, layer, connections)

    def _scatter(self, values: Tensor, empty: float) -> Tensor:
        return scatter_trials(values, self.trials, len(self.seeds), empty)
