"""Problems of the cascade-correlation papers, and its quickprop weight by weight."""

import math

import torch
from torch import Tensor


def two_spirals() -> tuple[Tensor, Tensor]:
    """194 points of the plane on two spirals, targets -0.5 and 0.5."""
    places = torch.arange(97, dtype=torch.float64)
    angle, radius = places * math.pi / 16, 6.5 * (104 - places) / 104
    points = torch.stack([radius * angle.sin(), radius * angle.cos()], 1)
    half = torch.full((97, 1), 0.5, dtype=torch.float64)
    return torch.cat([points, -points]), torch.cat([half, -half])


def bits(number: int) -> Tensor:
    """All rows of so many zeros and ones."""
    rows = torch.arange(2**number)[:, None] >> torch.arange(number)
    return (rows & 1).double()


def parity(number: int) -> tuple[Tensor, Tensor]:
    """Whether a number of inputs, -0.5 or 0.5, are odd: 0.5, else -0.5."""
    rows = bits(number)
    return rows - 0.5, rows.sum(1, keepdim=True) % 2 - 0.5


def scalar_quickprop(
    slope: float, previous: float, step: float, rate: float, growth: float
) -> float:
    """One weight's step, as Fahlman's program has it."""
    shrink = growth / (1 + growth)
    change = previous - slope
    parabola = step * slope / change if change else 0.0
    if step < 0:
        along = -rate * slope if slope > 0 else 0.0
        return along + (growth * step if slope >= shrink * previous else parabola)
    if step > 0:
        along = -rate * slope if slope < 0 else 0.0
        return along + (growth * step if slope <= shrink * previous else parabola)
    return -rate * slope
