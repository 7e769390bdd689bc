"""The exact order statistic (k-th smallest value) of the magnitudes in each row."""

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray[Any, np.dtype[Any]]

# Elements sampled from a row; shorter rows are partitioned directly.
SAMPLE_SIZE = 512
# The bracket around the rank, in standard deviations of the sample estimate.
SPREAD = 3.0
# Interpolation steps at most; two or three usually suffice.
MAX_STEPS = 6


def magnitude_of_rank(rows: Tensor, rank: int) -> Tensor:
    """The magnitude of the given rank in each row, in ascending order.

    Args:
        rows: ``(R, D)``, without NaN.
        rank: from 0 (the smallest) to D - 1.

    Returns:
        ``(R,)``, of the dtype of the rows.

    Example:
        >>> magnitude_of_rank(torch.tensor([[3.0, -1.0, 2.0]]), 1)
        tensor([2.])
    """
    rows = rows.detach()
    if rows.device.type != "cpu":
        top = rows.abs().topk(rows.shape[1] - rank, sorted=False).values
        return top.amin(-1)
    # numpy has no bfloat16, and is slow in float16; float32 holds both.
    wide = rows if rows.dtype == torch.float64 else rows.float()
    found = torch.empty(len(rows), dtype=wide.dtype)
    magnitudes, out = np.empty_like(wide.numpy(), shape=rows.shape[1:]), found.numpy()
    # One thread: the steps of two would mostly wait for the interpreter's lock.
    for index, row in enumerate(wide.numpy()):
        np.abs(row, out=magnitudes)
        out[index] = _select(magnitudes, rank)
    return found.to(rows.dtype)


def _select(values: Array, rank: int) -> Any:
    """The value of ``rank`` in ascending order; may reorder the values.

    Counting comparisons costs a fortieth of a partition. So a sample brackets the value
    as in Floyd and Rivest (1975), counts narrow the bracket, and only the values inside
    are partitioned. Counts are exact: a bad guess costs time, nothing else.
    """
    if len(values) <= SAMPLE_SIZE:
        values.partition(rank)
        return values[rank]
    bracket = _Bracket(values, rank)
    for guess in _guess_by_sample(values, rank):
        bracket.narrow(guess)
    for _ in range(MAX_STEPS):
        if bracket.inside <= 2 * SAMPLE_SIZE:
            break
        bracket.narrow(bracket.interpolate())
    return bracket.select()


class _Bracket:
    """An interval (low, high] that holds the value of a rank."""

    def __init__(self, values: Array, rank: int) -> None:
        self.values = values
        self.rank = rank
        self.low, self.high = values.dtype.type(-1), values.dtype.type(math.inf)
        # How many values are not above either end.
        self.count_low, self.count_high = 0, len(values)

    def narrow(self, guess: float) -> None:
        """Move one end to the guess, if that lies inside."""
        end = self.values.dtype.type(guess)
        if not self.low < end < self.high:
            return
        count = len(self.values) - int(np.count_nonzero(self.values > end))
        if count <= self.rank:
            self.low, self.count_low = end, count
        else:
            self.high, self.count_high = end, count

    @property
    def inside(self) -> int:
        """How many values lie in it."""
        return self.count_high - self.count_low

    def interpolate(self) -> float:
        """An estimate of the value, shifted towards the end that is farther off."""
        rank = self.rank + 0.5 - self.count_low
        side = -1 if rank > self.inside / 2 else 1
        share = rank / self.inside + side * SPREAD / math.sqrt(self.inside)
        return float(self.low) + share * (float(self.high) - float(self.low))

    def select(self) -> Any:
        """The value of the rank."""
        # So many are left only if most are equal, like the zeros of dead units.
        is_wide = self.inside > len(self.values) // 8
        if is_wide and np.count_nonzero(self.values < self.high) <= self.rank:
            return self.high
        is_inside = self.values > self.low
        is_inside &= self.values <= self.high
        candidates = self.values[is_inside]
        candidates.partition(self.rank - self.count_low)
        return candidates[self.rank - self.count_low]


def _guess_by_sample(values: Array, rank: int) -> Iterator[Any]:
    sample = values.take(_sample_indices(len(values)))
    sample.sort()
    share = (rank + 0.5) / len(values)
    margin = SPREAD * math.sqrt(share * (1 - share) * len(sample))
    for side in (-1, 1):
        index = int(share * len(sample) + side * margin)
        yield sample[min(max(index, 0), len(sample) - 1)]


@lru_cache(maxsize=64)
def _sample_indices(size: int) -> Array:
    """Indices of a sample: random, since the coordinates of a layer are periodic."""
    return np.sort(np.random.default_rng(0).integers(0, size, SAMPLE_SIZE))
