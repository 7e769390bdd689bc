"""Quickprop, elementwise on tensors of weights.

S. E. Fahlman, An empirical study of learning speed in back-propagation networks,
CMU-CS-88-162, 1988. As there, a slope is the gradient with respect to one weight.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


def quickprop_step(
    slopes: Tensor,
    previous_slopes: Tensor,
    previous_steps: Tensor,
    rate: float | Tensor,
    growth: float,
) -> Tensor:
    """The update of each weight, by a parabola through its last two slopes.

    With slope ``S`` now and ``S'`` before the last step ``d'``, the parabola has its
    minimum at ``d = d' S / (S' - S)``. Where that would be further than ``growth * d'``
    in the direction of the last step, the step is ``growth * d'``. A gradient descent
    step ``-rate * S`` is added at the start, and where the last step still leads
    downhill.

    Args:
        slopes: gradient of the objective at the current weights, of any shape.
        previous_slopes: gradient before the last step, of the same shape.
        previous_steps: the last step; zero for a weight that has made none.
        rate: learning rate of the gradient descent step.
        growth: maximum growth factor (Fahlman's mu): a step is at most this many times
            the last one.

    Returns:
        What to add to the weights, of the same shape.
    """
    shrink = growth / (1 + growth)
    direction = previous_steps.sign()
    # Positive where the direction of the last step still leads downhill.
    descent = -direction * slopes
    is_limited = descent >= -shrink * direction * previous_slopes
    change = previous_slopes - slopes
    parabola = previous_steps * slopes / torch.where(change == 0, torch.inf, change)
    steps = torch.where(is_limited, growth * previous_steps, parabola)
    follows_slope = (descent > 0) | (direction == 0)
    return steps - torch.where(follows_slope, rate * slopes, 0)


@dataclass
class QuickpropWeights:
    """Weights and their quickprop state.

    Attributes:
        values: the weights, ``(T, ...)`` of ``T`` trials.
        slopes: gradient before the last step, including weight decay, ``(T, ...)``.
        steps: the last step, ``(T, ...)``.
    """

    values: Tensor
    slopes: Tensor
    steps: Tensor

    @classmethod
    def start(cls, values: Tensor) -> "QuickpropWeights":
        """Weights at which no step was made yet."""
        return cls(values, torch.zeros_like(values), torch.zeros_like(values))

    def descend(
        self, slopes: Tensor, rate: float | Tensor, growth: float, decay: float
    ) -> None:
        """Update the weights once.

        Args:
            slopes: gradient of what is minimized, ``(T, ...)``.
            rate: see :func:`quickprop_step`.
            growth: see :func:`quickprop_step`.
            decay: weight decay: this times the weight is added to its slope.
        """
        if decay:
            slopes = slopes + decay * self.values
        self.steps = quickprop_step(slopes, self.slopes, self.steps, rate, growth)
        self.values = self.values + self.steps
        self.slopes = slopes

    def select(self, trials: Tensor) -> None:
        """Drop all trials but these, given by index or mask."""
        self.values = self.values[trials]
        self.slopes = self.slopes[trials]
        self.steps = self.steps[trials]
