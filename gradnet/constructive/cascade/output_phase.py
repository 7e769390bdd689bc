"""The training of the output weights, for a batch of trials at once.

Letters as in :mod:`gradnet.constructive.cascade.candidates`, and
``K`` outputs of the network.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gradnet.constructive.cascade.settings import CascadeSettings, PhaseSettings
from gradnet.constructive.quickprop import QuickpropWeights
from gradnet.models.activations import activation

# The batch is shrunk when at least this fraction of its trials has ended.
SHRINK_FRACTION = 0.15


class Patience:
    """Detects, for each trial, when a value has stopped changing.

    Args:
        settings: a trial has stalled after ``patience`` epochs without a relative
            change of more than ``change`` since the last significant value.
    """

    def __init__(self, settings: PhaseSettings) -> None:
        self.change, self.patience = settings.change, settings.patience
        self.reference: Tensor | None = None

    def update(self, values: Tensor) -> Tensor:
        """Take the next value of each trial ``(T,)``.

        Returns:
            Which trials have stalled, bool ``(T,)``.
        """
        if self.reference is None:
            self.reference = values
            self.waited = torch.zeros_like(values, dtype=torch.long)
            return torch.zeros_like(values, dtype=torch.bool)
        moved = (values - self.reference).abs() > self.change * self.reference.abs()
        self.reference = torch.where(moved, values, self.reference)
        self.waited = torch.where(moved, 0, self.waited + 1)
        return self.waited >= self.patience

    def select(self, trials: Tensor) -> None:
        """Drop all trials but these, given by index or mask."""
        assert self.reference is not None
        self.reference, self.waited = self.reference[trials], self.waited[trials]


@dataclass(frozen=True)
class Objective:
    """The targets, and how outputs are computed and compared with them.

    Attributes:
        targets: ``(K, N)``; zero where a target is missing.
        mask: one where there is a target, else zero, ``(K, N)``.
        settings: of the whole training.
    """

    targets: Tensor
    mask: Tensor
    settings: CascadeSettings

    def residuals(self, weights: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Output errors, and the residuals that candidates are trained on.

        Args:
            weights: of the outputs, ``(T, K, I)``.
            features: ``(T, I, N)``.

        Returns:
            Outputs minus targets, and the same multiplied by the derivative of the
            outputs' activation function; both ``(T, K, N)``, zero without a target.
        """
        function = activation(self.settings.output)
        net = weights @ features
        outputs = function.value(net)
        differences = (outputs - self.targets) * self.mask
        if self.settings.output == "linear":
            return differences, differences
        slopes = function.derivative(net, outputs) + self.settings.sigmoid_offset
        return differences, differences * slopes


@dataclass(frozen=True)
class OutputPhase:
    """Trained output weights.

    Attributes:
        weights: ``(T, K, I)``.
        solved: whether all outputs are close enough to their targets, bool ``(T,)``.
        epochs: number of epochs, ``(T,)``.
        errors: sum of squared errors of each epoch, ``(T, epochs)``; NaN after a trial
            has ended.
    """

    weights: Tensor
    solved: Tensor
    epochs: Tensor
    errors: Tensor


def train_outputs(
    weights: Tensor, features: Tensor, objective: Objective
) -> OutputPhase:
    """Train the output weights of each trial until it is solved or has stalled.

    Args:
        weights: initial weights, ``(T, K, I)``.
        features: ``(T, I, N)``.
        objective: the targets and settings.

    Returns:
        The trained weights.
    """
    settings = objective.settings.outputs
    trials = torch.arange(len(weights), device=weights.device)
    rate = settings.rate / features.shape[2]
    state, patience = QuickpropWeights.start(weights), Patience(settings)
    running = torch.ones_like(trials, dtype=torch.bool)
    final = weights.clone()
    solved, epochs = torch.zeros_like(running), torch.zeros_like(trials)
    errors = weights.new_full((len(weights), settings.epochs), torch.nan)
    for epoch in range(settings.epochs):
        differences, residual = objective.residuals(state.values, features)
        squares = differences.square().sum((1, 2))
        errors[trials[running], epoch] = squares[running]
        is_solved = (differences.abs() < objective.settings.threshold).all(2).all(1)
        previous = state.values
        state.descend(residual @ features.mT, rate, settings.growth, settings.decay)
        ends = is_solved | patience.update(squares) | (epoch == settings.epochs - 1)
        if not (ends := ends & running).any():
            continue
        ended, won = trials[ends], is_solved[ends]
        solved[ended], epochs[ended] = won, torch.where(won, epoch, epoch + 1)
        # The weights of a solution are those before the step.
        final[ended] = torch.where(
            won[:, None, None], previous[ends], state.values[ends]
        )
        running = running & ~ends
        if should_shrink(running):
            state.select(running)
            patience.select(running)
            trials, features = trials[running], features[running]
            running = running[running]
        if not len(trials):
            break
    return OutputPhase(final, solved, epochs, errors[:, : epoch + 1])


def should_shrink(running: Tensor) -> bool:
    """Whether enough trials have ended to shrink the batch."""
    count = int(running.sum())
    return count == 0 or count <= (1 - SHRINK_FRACTION) * len(running)
