"""What candidates are trained for: correlation with the residual, or less error.

Letters as in :mod:`gradnet.constructive.cascade.candidates`, and
``K`` outputs of the network.
"""

from typing import Protocol

import torch
from torch import Tensor

from gradnet.constructive.quickprop import QuickpropWeights


class Criterion(Protocol):
    """Judges a group of candidates, epoch after epoch."""

    def cotangents(self, values: Tensor) -> Tensor:
        """Derivatives of minus the score by the values ``(T, C, M, N)``."""

    def observe(self, values: Tensor) -> Tensor:
        """The scores ``(T, C)``; what is remembered of the epoch."""

    @property
    def output_weights(self) -> Tensor:
        """With which the candidates would be installed, ``(T, C, M, K)``."""

    def keep(self, trials: Tensor) -> None:
        """Go on with these trials only."""


class Covariance:
    """The covariance with each output's residual, over its sum of squares, added up.

    Fahlman and Lebiere's S, which grows without bound as the residual vanishes. The
    signs in its gradient are those of the epoch before; the score of a candidate with
    several outputs is their mean.

    Args:
        residual: ``(T, K, N)``; zero where an output is not judged.
        judged: ``(K, N)``, one where it is, else zero.
    """

    def __init__(self, residual: Tensor, judged: Tensor) -> None:
        mean = residual.sum(2, keepdim=True) / judged.sum(1)[:, None].clamp(min=1)
        self.centered = (residual - mean) * judged
        self.squares = _positive(residual.square().sum((1, 2)))[:, None, None]
        self.correlations = torch.empty(0)

    def cotangents(self, values: Tensor) -> Tensor:
        """See :class:`Criterion`."""
        signs = self.correlations.sign().flatten(1, 2)
        pulls = signs @ (self.centered / (-self.squares * values.shape[2]))
        return pulls.view_as(values)

    def observe(self, values: Tensor) -> Tensor:
        """See :class:`Criterion`."""
        products = values.flatten(1, 2) @ self.centered.mT / self.squares
        self.correlations = products.view(*values.shape[:3], -1)
        return self.correlations.abs().sum(3).mean(2)

    @property
    def output_weights(self) -> Tensor:
        """Minus the correlations of the last epoch."""
        return -self.correlations

    def keep(self, trials: Tensor) -> None:
        """See :class:`Criterion`."""
        self.centered, self.squares = self.centered[trials], self.squares[trials]
        self.correlations = self.correlations[trials]


class ErrorReduction:
    """The part of the squared residual that a candidate takes away by learned weights.

    Fahlman's Cascade-2. The weights start where the first epoch's least squares for
    each output have them.

    Args:
        residual: ``(T, K, N)``; zero where an output is not judged.
        judged: ``(K, N)``, one where it is, else zero.
        rate: of the weights, over the number of samples.
        growth: of quickprop.
    """

    def __init__(
        self, residual: Tensor, judged: Tensor, rate: float, growth: float
    ) -> None:
        self.residual, self.judged = residual, judged
        self.rate, self.growth = rate, growth
        self.squares = _positive(residual.square().sum((1, 2)))[:, None]
        self.weights: QuickpropWeights | None = None

    def cotangents(self, values: Tensor) -> Tensor:
        """See :class:`Criterion`."""
        assert self.weights is not None
        pulls = self.weights.values @ self._remaining(values)
        return -2 * pulls / self.squares[..., None, None]

    def observe(self, values: Tensor) -> Tensor:
        """See :class:`Criterion`."""
        if self.weights is None:
            products = values @ self.residual.unsqueeze(1).mT
            squares = values.square() @ self.judged.T
            start = products / _positive(squares) / values.shape[2]
            self.weights = QuickpropWeights.start(start)
        remaining = self._remaining(values)
        self.weights.descend(-values @ remaining.mT, self.rate, self.growth, 0.0)
        return 1 - remaining.square().sum((2, 3)) / self.squares

    @property
    def output_weights(self) -> Tensor:
        """Minus what was learned."""
        assert self.weights is not None
        return -self.weights.values

    def keep(self, trials: Tensor) -> None:
        """See :class:`Criterion`."""
        assert self.weights is not None
        self.residual, self.squares = self.residual[trials], self.squares[trials]
        self.weights.keep(trials)

    def _remaining(self, values: Tensor) -> Tensor:
        """The residual without what each candidate takes away, ``(T, C, K, N)``."""
        assert self.weights is not None
        taken = self.weights.values.mT @ values
        return self.residual.unsqueeze(1) - taken * self.judged


def _positive(squares: Tensor) -> Tensor:
    """Sums to divide by; of a residual of zero nothing can be had."""
    return squares.clamp(min=torch.finfo(squares.dtype).tiny)
