"""The steps of a feature map: selection, scaling, unit norm and signed power.

A step works on one block ``(..., D)`` at a time; the letters are those of
:mod:`gradnet.gradients.layout`.

| step | what it does | fitted |
|---|---|---|
| :class:`SelectLargest` | keeps the largest p percent of a block by magnitude | no |
| :class:`Scale` | divides each coordinate by its range, deviation or maximum | yes |
| :class:`UnitNorm` | divides each block of each gradient by its L2 norm | no |
| :class:`SignedPower` | sign(g) times the power of its magnitude | no |
"""

import math
from collections.abc import Mapping
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from gradnet.core.quantiles import magnitude_of_rank
from gradnet.core.running_statistics import RunningStatistics
from gradnet.errors import InvalidInputError, NotFittedError


class Step(Protocol):
    """One step of a feature map, applied to each gradient independently.

    Several threads may apply it at once.
    """

    def apply(self, name: str, block: Tensor) -> Tensor:
        """The features of some gradients of a block; may overwrite its argument."""


class SelectLargest:
    """Keep the largest ``percent`` of each block of each gradient, zero the rest.

    As in 2018, magnitudes strictly above the ``100 - percent`` percentile of the block
    (linear interpolation) are kept, so ties at the threshold are dropped.

    Args:
        percent: of the coordinates, in (0, 100].

    Raises:
        InvalidInputError: ``percent`` is out of range.
    """

    def __init__(self, percent: float) -> None:
        if not 0 < percent <= 100:
            raise InvalidInputError(
                f"percent is {percent}; it must be above 0, at most 100"
            )
        self.percent = percent

    def apply(self, name: str, block: Tensor) -> Tensor:
        """Zero the small coordinates in place."""
        if self.percent == 100:
            return block
        size = block.shape[-1]
        # No magnitude lies between two adjacent order statistics, so to be above the
        # interpolated percentile is to be above the lower one: no interpolation needed.
        rank = math.floor((1 - self.percent / 100) * (size - 1) + 1e-9)
        rows = block.reshape(-1, size)
        thresholds = magnitude_of_rank(rows, rank)
        if not can_use_numpy(block):
            thresholds = thresholds.view(*block.shape[:-1], 1)
            return block.mul_(block.abs() > thresholds)
        # As torch.where with a mask would, in a tenth of the time.
        for row, threshold in zip(rows, thresholds.tolist(), strict=True):
            torch.hardshrink(row, threshold, out=row)
        return rows.view_as(block)


class Scale:
    """Scale each coordinate by statistics of the training gradients.

    Args:
        kind: ``min-max`` maps the range to [0, 1], as in 2018; ``std`` divides by the
            standard deviation; ``standard`` subtracts the mean as well; ``max-abs``
            divides by the largest magnitude. Zeros stay zero with all kinds. A
            coordinate whose range or deviation is zero is divided by 1.

    Raises:
        InvalidInputError: there is no such kind.
    """

    KINDS = ("min-max", "std", "standard", "max-abs")

    def __init__(self, kind: str) -> None:
        if kind not in self.KINDS:
            raise InvalidInputError(f"no scaling {kind!r}; there are {self.KINDS}")
        self.kind = kind
        self.statistics: dict[str, RunningStatistics] = {}
        self._affine: dict[
            tuple[str, torch.dtype, torch.device], tuple[Tensor | None, Tensor]
        ] = {}

    def update(self, name: str, block: Tensor) -> None:
        """Add gradients ``(..., D)`` of a block to the statistics."""
        self.statistics.setdefault(name, RunningStatistics()).update(block)
        self._affine.clear()

    def merge(self, other: "Scale") -> None:
        """Add the statistics of a scaling that was fitted on other gradients."""
        for name, statistics in other.statistics.items():
            self.statistics.setdefault(name, RunningStatistics()).merge(statistics)
        self._affine.clear()

    def replace(self, statistics: Mapping[str, RunningStatistics]) -> None:
        """Replace the statistics by these, block name -> statistics."""
        self.statistics = dict(statistics)
        self._affine.clear()

    def apply(self, name: str, block: Tensor) -> Tensor:
        """Scale in place; zeros stay zero.

        Raises:
            NotFittedError: the block was never fitted.
            InvalidInputError: the block has another size than the fitted one.
        """
        offset, factor = self.offset_and_factor(name, block)
        if offset is None:
            return block.mul_(factor)
        # A mask of numbers, not of booleans: five times as fast in torch.
        kept = torch.ne(block.detach(), 0, out=torch.empty_like(block))
        return block.sub_(offset).mul_(factor).mul_(kept)

    @property
    def is_linear(self) -> bool:
        """Whether it only multiplies."""
        return self.kind in ("std", "max-abs")

    def offset_and_factor(
        self, name: str, block: Tensor
    ) -> tuple[Tensor | None, Tensor]:
        """What to subtract (None if nothing) and then multiply by, ``(D,)`` each.

        Args:
            name: of the block.
            block: a tensor of the block's size, dtype and device.

        Raises:
            NotFittedError: the block was never fitted.
            InvalidInputError: the block has another size than the fitted one.
        """
        if name not in self.statistics:
            raise NotFittedError(f"the scaling was not fitted for block {name!r}")
        key = name, block.dtype, block.device
        if key not in self._affine:
            offset, divisor = self._offset_and_divisor(self.statistics[name])
            divisor = divisor.to(block)
            # The reciprocal of less than the smallest normal number is infinite.
            can_divide = divisor >= torch.finfo(divisor.dtype).tiny
            self._affine[key] = (
                None if offset is None else offset.to(block),
                torch.where(can_divide, divisor, 1).reciprocal(),
            )
        offset, factor = self._affine[key]
        if factor.shape != block.shape[-1:]:
            raise InvalidInputError(
                f"block {name!r} has {block.shape[-1]} coordinates, the scaling was "
                f"fitted on {len(factor)}"
            )
        return offset, factor

    def _offset_and_divisor(
        self, statistics: RunningStatistics
    ) -> tuple[Tensor | None, Tensor]:
        if self.kind == "min-max":
            return statistics.minimum, statistics.maximum - statistics.minimum
        if self.kind == "standard":
            return statistics.mean, statistics.deviation
        if self.kind == "std":
            return None, statistics.deviation
        return None, statistics.max_abs


class UnitNorm:
    """Divide each block of each gradient by its L2 norm; zero blocks stay zero."""

    def apply(self, name: str, block: Tensor) -> Tensor:
        """Normalize in place."""
        norm = torch.linalg.vector_norm(block, dim=-1, keepdim=True)
        return block.div_(torch.where(norm > 0, norm, 1))


class SignedPower:
    """``sign(g) |g| ** exponent``.

    Args:
        exponent: 0.5 in the 2018 recipe.

    Raises:
        InvalidInputError: the exponent is not positive.
    """

    def __init__(self, exponent: float) -> None:
        if not exponent > 0:
            raise InvalidInputError(f"the exponent is {exponent}; it must be positive")
        self.exponent = exponent

    def apply(self, name: str, block: Tensor) -> Tensor:
        """Raise to the power."""
        magnitudes = block.abs()
        if self.exponent == 0.5:
            return _square_root_of(magnitudes).copysign_(block)
        return magnitudes.pow_(self.exponent).copysign_(block)


def can_use_numpy(block: Tensor) -> bool:
    """Whether numpy can work on the memory of a block."""
    return block.device.type == "cpu" and not block.requires_grad


def _square_root_of(magnitudes: Tensor) -> Tensor:
    is_numpy_type = magnitudes.dtype in (torch.float32, torch.float64)
    if not is_numpy_type or not can_use_numpy(magnitudes):
        return magnitudes.sqrt_()
    # torch's square root takes seven times as long where there are zeros.
    np.sqrt(magnitudes.numpy(), out=magnitudes.numpy())
    return magnitudes
