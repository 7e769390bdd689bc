"""The training of a cascade's output weights, for a batch of trials at once.

Letters as in :mod:`gradnet.constructive.cascade.candidates`, and
``K`` outputs of the network.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gradnet.constructive.cascade.settings import CascadeSettings, PhaseSettings
from gradnet.constructive.quickprop import QuickpropWeights
from gradnet.models.activations import activation

# Trials that are through are dropped from the batch when they are so large a part.
WORTH_DROPPING = 0.15


class Patience:
    """Notices, for each trial, when a number has stopped changing.

    Args:
        settings: ``patience`` epochs without a change by more than the part ``change``
            of the last significant value are too many.
    """

    def __init__(self, settings: PhaseSettings) -> None:
        self.change, self.patience = settings.change, settings.patience
        self.reference: Tensor | None = None

    def is_worn_out(self, numbers: Tensor) -> Tensor:
        """Take the next number of each trial ``(T,)``."""
        if self.reference is None:
            self.reference = numbers
            self.waited = torch.zeros_like(numbers, dtype=torch.long)
            return torch.zeros_like(numbers, dtype=torch.bool)
        moved = (numbers - self.reference).abs() > self.change * self.reference.abs()
        self.reference = torch.where(moved, numbers, self.reference)
        self.waited = torch.where(moved, 0, self.waited + 1)
        return self.waited >= self.patience

    def keep(self, trials: Tensor) -> None:
        """Go on with these trials only."""
        assert self.reference is not None
        self.reference, self.waited = self.reference[trials], self.waited[trials]


@dataclass(frozen=True)
class Goal:
    """What the outputs should be.

    Attributes:
        targets: ``(K, N)``; zero where there is none.
        judged: ``(K, N)``, one where there is a target, else zero.
        settings: how outputs are computed and judged.
    """

    targets: Tensor
    judged: Tensor
    settings: CascadeSettings

    def compare(self, weights: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """What outputs are off by, and the residual, both ``(T, K, N)``."""
        function = activation(self.settings.output)
        net = weights @ columns
        outputs = function.value(net)
        differences = (outputs - self.targets) * self.judged
        if self.settings.output == "linear":
            return differences, differences
        slopes = function.derivative(net, outputs) + self.settings.sigmoid_offset
        return differences, differences * slopes


@dataclass(frozen=True)
class OutputPhase:
    """Trained output weights.

    Attributes:
        weights: ``(T, K, I)``.
        solved: ``(T,)``.
        epochs: ``(T,)``.
        errors: sums of squares ``(T, epochs)``, NaN after a trial's end.
    """

    weights: Tensor
    solved: Tensor
    epochs: Tensor
    errors: Tensor


def train_outputs(weights: Tensor, columns: Tensor, goal: Goal) -> OutputPhase:
    """Train all weights of the outputs.

    Args:
        weights: to start from, ``(T, K, I)``.
        columns: ``(T, I, N)``.
        goal: what for.
    """
    settings = goal.settings.outputs
    trials = torch.arange(len(weights), device=weights.device)
    rate = settings.rate / columns.shape[2]
    state, patience = QuickpropWeights.start(weights), Patience(settings)
    running = torch.ones_like(trials, dtype=torch.bool)
    final = weights.clone()
    solved, epochs = torch.zeros_like(running), torch.zeros_like(trials)
    errors = weights.new_full((len(weights), settings.epochs), torch.nan)
    for epoch in range(settings.epochs):
        differences, residual = goal.compare(state.values, columns)
        squares = differences.square().sum((1, 2))
        errors[trials[running], epoch] = squares[running]
        wins = (differences.abs() < goal.settings.threshold).all(2).all(1)
        before = state.values
        state.descend(residual @ columns.mT, rate, settings.growth, settings.decay)
        ends = wins | patience.is_worn_out(squares) | (epoch == settings.epochs - 1)
        if not (ends := ends & running).any():
            continue
        ended, won = trials[ends], wins[ends]
        solved[ended], epochs[ended] = won, torch.where(won, epoch, epoch + 1)
        # A solution is kept as it was judged, before the step.
        final[ended] = torch.where(won[:, None, None], before[ends], state.values[ends])
        running = running & ~ends
        if is_worth_dropping(running):
            for part in (state, patience):
                part.keep(running)
            trials, columns = trials[running], columns[running]
            running = running[running]
        if not len(trials):
            break
    return OutputPhase(final, solved, epochs, errors[:, : epoch + 1])


def is_worth_dropping(running: Tensor) -> bool:
    """Whether so many trials are through that the batch should shrink."""
    left = int(running.sum())
    return left == 0 or left <= (1 - WORTH_DROPPING) * len(running)
