"""Quickprop, elementwise on tensors of weights.

S. E. Fahlman, An empirical study of learning speed in back-propagation networks,
CMU-CS-88-162, 1988.
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
    """The step of each weight, towards the minimum of a parabola or downhill.

    Args:
        slopes: gradient of the objective at the current weights.
        previous_slopes: before the last step.
        previous_steps: the last step; zero for a weight that has made none.
        rate: of the step along the slope, which is made at the start and wherever the
            last step still leads downhill.
        growth: a step is at most so many times the last one, where it leads on.

    Returns:
        What to add to the weights, of the same shape.
    """
    shrink = growth / (1 + growth)
    direction = previous_steps.sign()
    # Positive where going on as before leads downhill.
    descent = -direction * slopes
    leads_on = descent >= -shrink * direction * previous_slopes
    change = previous_slopes - slopes
    parabola = previous_steps * slopes / torch.where(change == 0, torch.inf, change)
    steps = torch.where(leads_on, growth * previous_steps, parabola)
    follows_slope = (descent > 0) | (direction == 0)
    return steps - torch.where(follows_slope, rate * slopes, 0)


@dataclass
class QuickpropWeights:
    """Weights and what quickprop remembers of each.

    Attributes:
        values: the weights, ``(T, ...)`` of ``T`` trials.
        slopes: before the last step, decay included.
        steps: the last step.
    """

    values: Tensor
    slopes: Tensor
    steps: Tensor

    @classmethod
    def start(cls, values: Tensor) -> "QuickpropWeights":
        """Weights that have made no step."""
        return cls(values, torch.zeros_like(values), torch.zeros_like(values))

    def descend(
        self, slopes: Tensor, rate: float | Tensor, growth: float, decay: float
    ) -> None:
        """Make one step.

        Args:
            slopes: of what is minimized.
            rate: see :func:`quickprop_step`.
            growth: the same.
            decay: so many times the weight is added to its slope.
        """
        if decay:
            slopes = slopes + decay * self.values
        self.steps = quickprop_step(slopes, self.slopes, self.steps, rate, growth)
        self.values = self.values + self.steps
        self.slopes = slopes

    def keep(self, trials: Tensor) -> None:
        """Go on with these trials only."""
        self.values = self.values[trials]
        self.slopes = self.slopes[trials]
        self.steps = self.steps[trials]
