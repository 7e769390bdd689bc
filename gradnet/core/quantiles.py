"""The order statistic of the magnitudes in each row: exact, by counting."""

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray[Any, np.dtype[Any]]

# Elements of the sample of a row; shorter rows are partitioned as they are.
SAMPLE_SIZE = 512
# Standard deviations of a guessed rank to either side of the one that is sought.
SPREAD = 3.0
# Guesses by interpolation, of which two or three usually do.
MAX_STEPS = 6


def magnitude_of_rank(rows: Tensor, rank: int) -> Tensor:
    """The magnitude in each row that ``rank`` others precede in ascending order.

    Args:
        rows: ``(R, D)``, without NaN.
        rank: from 0 to D - 1.

    Returns:
        ``(R,)``, of the type of the rows.
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

    To compare and count costs a fortieth of a partition. So a sample brackets what is
    sought, as in Floyd and Rivest (1975), counts narrow the bracket, and only what lies
    in it is partitioned. Counts are exact: a bad guess costs time, nothing else.
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
        """A value near what is sought, on the side of the end that is farther off."""
        rank = self.rank + 0.5 - self.count_low
        side = -1 if rank > self.inside / 2 else 1
        share = rank / self.inside + side * SPREAD / math.sqrt(self.inside)
        return float(self.low) + share * (float(self.high) - float(self.low))

    def select(self) -> Any:
        """The value of the rank."""
        # So many only if most are equal, as the zeros of dead units.
        is_wide = self.inside > len(self.values) // 8
        if is_wide and np.count_nonzero(self.values < self.high) <= self.rank:
            return self.high
        is_inside = self.values > self.low
        is_inside &= self.values <= self.high
        candidates = self.values[is_inside]
        candidates.partition(self.rank - self.count_low)
        return candidates[self.rank - self.count_low]


def _guess_by_sample(values: Array, rank: int) -> Iterator[Any]:
    sample = values.take(_sample_places(len(values)))
    sample.sort()
    share = (rank + 0.5) / len(values)
    margin = SPREAD * math.sqrt(share * (1 - share) * len(sample))
    for side in (-1, 1):
        place = int(share * len(sample) + side * margin)
        yield sample[min(max(place, 0), len(sample) - 1)]


@lru_cache(maxsize=64)
def _sample_places(size: int) -> Array:
    """Places of a sample: at random, for coordinates of a layer have periods."""
    return np.sort(np.random.default_rng(0).integers(0, size, SAMPLE_SIZE))
