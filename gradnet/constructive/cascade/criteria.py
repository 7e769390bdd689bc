"""Scores that candidates maximize: correlation with the residual or error reduction.

Letters as in :mod:`gradnet.constructive.cascade.candidates`, and
``K`` outputs of the network.
"""

from typing import Protocol

import torch
from torch import Tensor

from gradnet.constructive.quickprop import QuickpropWeights


class Criterion(Protocol):
    """The score of a group of candidates, epoch by epoch."""

    def cotangents(self, values: Tensor) -> Tensor:
        """Gradient of minus the score with respect to the values ``(T, C, M, N)``."""

    def score(self, values: Tensor) -> Tensor:
        """End an epoch: the scores ``(T, C)`` of the values ``(T, C, M, N)``."""

    @property
    def output_weights(self) -> Tensor:
        """Initial weights to the outputs if installed, ``(T, C, M, K)``."""

    def select(self, trials: Tensor) -> None:
        """Drop all trials but these, given by index or mask."""


class Covariance:
    """Fahlman and Lebiere's score ``S``, divided by the sum of squared residuals.

    ``S = sum_o |sum_p (V_p - mean V)(E_po - mean E_o)|`` (1990, eq. 1), with value
    ``V_p`` of the candidate and residual ``E_po`` of output ``o`` on sample ``p``.
    After the division it grows without bound as the residual vanishes. The signs in its
    gradient are those of the epoch before. The score of a candidate with several
    outputs is the mean over them.

    Args:
        residual: ``(T, K, N)``; zero where a target is missing.
        mask: one where there is a target, else zero, ``(K, N)``.
    """

    def __init__(self, residual: Tensor, mask: Tensor) -> None:
        mean = residual.sum(2, keepdim=True) / mask.sum(1)[:, None].clamp(min=1)
        self.centered = (residual - mean) * mask
        self.squares = _positive(residual.square().sum((1, 2)))[:, None, None]
        self.correlations = torch.empty(0)

    def cotangents(self, values: Tensor) -> Tensor:
        """See :class:`Criterion`."""
        signs = self.correlations.sign().flatten(1, 2)
        cotangents = signs @ (self.centered / (-self.squares * values.shape[2]))
        return cotangents.view_as(values)

    def score(self, values: Tensor) -> Tensor:
        """See :class:`Criterion`."""
        products = values.flatten(1, 2) @ self.centered.mT / self.squares
        self.correlations = products.view(*values.shape[:3], -1)
        return self.correlations.abs().sum(3).mean(2)

    @property
    def output_weights(self) -> Tensor:
        """Minus the correlations of the last epoch."""
        return -self.correlations

    def select(self, trials: Tensor) -> None:
        """See :class:`Criterion`."""
        self.centered, self.squares = self.centered[trials], self.squares[trials]
        self.correlations = self.correlations[trials]


class ErrorReduction:
    """Fahlman's Cascade-2: the fraction of the squared residual that is removed.

    Each candidate has weights to the outputs, which are trained with it, and subtracts
    its weighted values from the residual. These weights start at the least-squares
    solution for each output by itself in the first epoch.

    Args:
        residual: ``(T, K, N)``; zero where a target is missing.
        mask: one where there is a target, else zero, ``(K, N)``.
        rate: learning rate of these weights, divided by the number of samples.
        growth: maximum growth factor of quickprop.
    """

    def __init__(
        self, residual: Tensor, mask: Tensor, rate: float, growth: float
    ) -> None:
        self.residual, self.mask = residual, mask
        self.rate, self.growth = rate, growth
        self.squares = _positive(residual.square().sum((1, 2)))[:, None]
        self.weights: QuickpropWeights | None = None

    def cotangents(self, values: Tensor) -> Tensor:
        """See :class:`Criterion`."""
        assert self.weights is not None
        cotangents = self.weights.values @ self._remaining(values)
        return -2 * cotangents / self.squares[..., None, None]

    def score(self, values: Tensor) -> Tensor:
        """See :class:`Criterion`."""
        if self.weights is None:
            products = values @ self.residual.unsqueeze(1).mT
            squares = values.square() @ self.mask.T
            start = products / _positive(squares) / values.shape[2]
            self.weights = QuickpropWeights.start(start)
        remaining = self._remaining(values)
        self.weights.descend(-values @ remaining.mT, self.rate, self.growth, 0.0)
        return 1 - remaining.square().sum((2, 3)) / self.squares

    @property
    def output_weights(self) -> Tensor:
        """Minus the trained weights."""
        assert self.weights is not None
        return -self.weights.values

    def select(self, trials: Tensor) -> None:
        """See :class:`Criterion`."""
        assert self.weights is not None
        self.residual, self.squares = self.residual[trials], self.squares[trials]
        self.weights.select(trials)

    def _remaining(self, values: Tensor) -> Tensor:
        """The residual that each candidate leaves, ``(T, C, K, N)``."""
        assert self.weights is not None
        removed = self.weights.values.mT @ values
        return self.residual.unsqueeze(1) - removed * self.mask


def _positive(squares: Tensor) -> Tensor:
    """Sums of squares to divide by; a residual of zero gives a score of zero."""
    return squares.clamp(min=torch.finfo(squares.dtype).tiny)
