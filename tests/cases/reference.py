"""Slow and obvious twins of what the package computes, to be compared against."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

Array = np.ndarray[Any, np.dtype[Any]]


def assert_same(actual: object, expected: object, tolerance: float = 1e-10) -> None:
    """Equal to rounding in float64, in shape and in every value; dicts by name."""
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def cross_entropy_of_one(logits: Tensor, label: Tensor) -> Tensor:
    """The loss of one sample, written out."""
    return logits.exp().sum().log() - logits[label]


def gradients_by_loop(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy_of_one,
) -> dict[str, Tensor]:
    """The gradients ``(N, C, *shape)`` of all parameters: one backward pass each."""
    model = copy.deepcopy(model).requires_grad_(True)
    found: dict[str, Tensor] = {
        name: torch.zeros(*labels.shape, *parameter.shape, dtype=parameter.dtype)
        for name, parameter in model.named_parameters()
    }
    for n in range(labels.shape[0]):
        for c in range(labels.shape[1]):
            model.zero_grad()
            loss(model(x[n : n + 1])[0], labels[n, c]).backward()
            for name, parameter in model.named_parameters():
                if parameter.grad is not None:
                    found[name][n, c] = parameter.grad
    return found


def directional_difference(
    model: nn.Module,
    x: Tensor,
    label: int,
    direction: Mapping[str, Tensor],
    step: float = 1e-6,
) -> float:
    """The slope of the loss of one sample ``(1, ...)`` along a change of weights."""
    losses = []
    for sign in (1, -1):
        moved = copy.deepcopy(model)
        with torch.no_grad():
            for name, parameter in moved.named_parameters():
                if name in direction:
                    parameter += sign * step * direction[name]
            losses.append(functional.cross_entropy(moved(x), torch.tensor([label])))
    return float(losses[0] - losses[1]) / (2 * step)


def select_largest(block: Array, percent: float) -> Array:
    """Keep what is strictly above the percentile of magnitudes, row by row."""
    result = np.zeros_like(block)
    for place in np.ndindex(block.shape[:-1]):
        magnitudes = np.abs(block[place])
        threshold = np.percentile(magnitudes, 100 - percent)
        # The interpolation of a tie may come out a last digit below the tie.
        kept = magnitudes > threshold * (1 + 1e-9)
        result[place][kept] = block[place][kept]
    return result


def scale(block: Array, training: Array, kind: str) -> Array:
    """Scale by statistics of ``training``, coordinate by coordinate."""
    result = np.zeros_like(block)
    for d in range(block.shape[-1]):
        seen = training[..., d].ravel()
        offset, divisor = {
            "min-max": (seen.min(), seen.max() - seen.min()),
            "std": (0.0, seen.std()),
            "standard": (seen.mean(), seen.std()),
            "max-abs": (0.0, np.abs(seen).max()),
        }[kind]
        # The mean of equal numbers need not be that number, to the last digit.
        if divisor <= 1e-14 * np.abs(seen).max():
            divisor = 1.0
        values = block[..., d]
        result[..., d] = np.where(values == 0, 0, (values - offset) / divisor)
    return result


def unit_norm(block: Array) -> Array:
    """Divide each row by its length, unless that is zero."""
    result = block.copy()
    for place in np.ndindex(block.shape[:-1]):
        length = np.sqrt((block[place] ** 2).sum())
        if length > 0:
            result[place] = block[place] / length
    return result


def signed_power(block: Array, exponent: float) -> Array:
    """sign(g) |g| ** exponent."""
    return np.sign(block) * np.abs(block) ** exponent


def block_sparse_matrix(
    sizes: list[int], hidden: list[int], window: int, weights: list[Array]
) -> Array:
    """The dense matrix ``(H of all groups, P)``, zero outside each group's window.

    Args:
        sizes: ``D`` of each block.
        hidden: units of each group.
        window: blocks that a group sees.
        weights: one for each pair of group and block, group by group.
    """
    matrix = np.zeros((sum(hidden), sum(sizes)))
    remaining = list(weights)
    for group, units in enumerate(hidden):
        rows = slice(sum(hidden[:group]), sum(hidden[: group + 1]))
        for block in range(group, group + window):
            columns = slice(sum(sizes[:block]), sum(sizes[: block + 1]))
            assert remaining[0].shape == (units, sizes[block])
            matrix[rows, columns] = remaining.pop(0)
    assert not remaining
    return matrix
