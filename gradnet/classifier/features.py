"""From gradients to features: selection, scaling, signed power, block by block.

Steps compose in any order, of which at most one is fitted, so a fit is one streaming
pass. Blocks are ``(..., D)``; the letters are those of ``blocks.py``.

| step | what it does | fitted |
|---|---|---|
| :class:`SelectLargest` | keeps the largest p percent of a block by magnitude | no |
| :class:`Scale` | divides each coordinate by its range, deviation or maximum | yes |
| :class:`UnitNorm` | divides each block of each gradient by its L2 norm | no |
| :class:`SignedPower` | sign(g) times the power of its magnitude | no |
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from gradnet.core.constraints import Range
from gradnet.core.quantiles import magnitude_of_rank
from gradnet.core.running_statistics import RunningStatistics
from gradnet.core.threads import for_each_piece
from gradnet.core.validation import Validated, check_arguments
from gradnet.errors import GradnetError

Blocks = Mapping[str, Tensor]

# On a CPU all steps are applied to so many bytes of a block before the next, so that
# they pass through the cache and not, ten times, through memory.
PIECE_BYTES = 4e6

Percent = Annotated[float, Range(above=0, at_most=100)]
Exponent = Annotated[float, Range(above=0, at_most=100)]


class Step(Protocol):
    """One step of a feature map: of each gradient by itself, from several threads."""

    def apply(self, name: str, block: Tensor) -> Tensor:
        """The features of some gradients of a block; may overwrite its argument."""


class SelectLargest:
    """Keep the largest ``percent`` of each block of each gradient, zero the rest.

    As in 2018: what is kept is strictly above the ``100 - percent`` percentile of the
    block's magnitudes (linear interpolation), so ties at the threshold fall.

    Args:
        percent: of the coordinates, in (0, 100].

    Raises:
        GradnetError: ``percent`` is out of range.
    """

    @check_arguments
    def __init__(self, percent: Percent) -> None:
        self.percent = percent

    def apply(self, name: str, block: Tensor) -> Tensor:
        """Zero the small coordinates in place."""
        if self.percent == 100:
            return block
        size = block.shape[-1]
        # Above the interpolated percentile is above the order statistic below it: what
        # lies between two neighbours in order is nothing. So no interpolation is made.
        rank = math.floor((1 - self.percent / 100) * (size - 1) + 1e-9)
        rows = block.reshape(-1, size)
        thresholds = magnitude_of_rank(rows, rank)
        if not _is_plain(block):
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
            divides by the largest magnitude. Zeros stay zero in all of them. A
            coordinate without range or deviation is divided by 1.

    Raises:
        GradnetError: there is no such kind.
    """

    KINDS = ("min-max", "std", "standard", "max-abs")

    def __init__(self, kind: str) -> None:
        if kind not in self.KINDS:
            raise GradnetError(f"no scaling {kind!r}; there are {self.KINDS}")
        self.kind = kind
        self.statistics: dict[str, RunningStatistics] = {}
        self._affine: dict[
            tuple[str, torch.dtype, torch.device], tuple[Tensor | None, Tensor]
        ] = {}

    def update(self, name: str, block: Tensor) -> None:
        """Take in gradients ``(..., D)`` of a block."""
        self.statistics.setdefault(name, RunningStatistics()).update(block)
        self._affine.clear()

    def merge(self, other: "Scale") -> None:
        """Take in the statistics of another, fitted on other gradients."""
        for name, statistics in other.statistics.items():
            self.statistics.setdefault(name, RunningStatistics()).merge(statistics)
        self._affine.clear()

    def replace(self, statistics: Mapping[str, RunningStatistics]) -> None:
        """Take statistics, by block name, in place of those that were fitted."""
        self.statistics = dict(statistics)
        self._affine.clear()

    def apply(self, name: str, block: Tensor) -> Tensor:
        """Scale in place; zeros stay zero.

        Raises:
            GradnetError: the block was never fitted, or has another size.
        """
        offset, factor = self.offset_and_factor(name, block)
        if offset is None:
            return block.mul_(factor)
        # As numbers, not as booleans: torch is five times as fast.
        kept = torch.ne(block.detach(), 0, out=torch.empty_like(block))
        return block.sub_(offset).mul_(factor).mul_(kept)

    @property
    def is_linear(self) -> bool:
        """Whether it only multiplies."""
        return self.kind in ("std", "max-abs")

    def offset_and_factor(
        self, name: str, block: Tensor
    ) -> tuple[Tensor | None, Tensor]:
        """What is subtracted and then multiplied, ``(D,)`` each, for such a block.

        Raises:
            GradnetError: the block was never fitted, or has another size.
        """
        if name not in self.statistics:
            raise GradnetError(f"the scaling was not fitted for block {name!r}")
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
            raise GradnetError(
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
        GradnetError: the exponent is not positive.
    """

    @check_arguments
    def __init__(self, exponent: Exponent) -> None:
        self.exponent = exponent

    def apply(self, name: str, block: Tensor) -> Tensor:
        """Raise to the power."""
        magnitudes = block.abs()
        if self.exponent == 0.5:
            return _square_root_of(magnitudes).copysign_(block)
        return magnitudes.pow_(self.exponent).copysign_(block)


def _is_plain(block: Tensor) -> bool:
    """Whether numpy may work on it too."""
    return block.device.type == "cpu" and not block.requires_grad


def _square_root_of(magnitudes: Tensor) -> Tensor:
    is_numpy_type = magnitudes.dtype in (torch.float32, torch.float64)
    if not is_numpy_type or not _is_plain(magnitudes):
        return magnitudes.sqrt_()
    # torch's root takes seven times as long where there are zeros.
    np.sqrt(magnitudes.numpy(), out=magnitudes.numpy())
    return magnitudes


class Features:
    """A chain of steps, fitted on training gradients only.

    Args:
        steps: applied in this order.

    Raises:
        GradnetError: more than one step needs to be fitted: the second would need a
            second pass.
    """

    def __init__(self, steps: Sequence[Step] = ()) -> None:
        self.steps = list(steps)
        fitted = [index for index, s in enumerate(steps) if isinstance(s, Scale)]
        if len(fitted) > 1:
            raise GradnetError("at most one step may be a Scale: a fit is one pass")
        self._fitted_index = fitted[0] if fitted else None

    @property
    def scale(self) -> Scale | None:
        """The step that is fitted, if there is one."""
        if self._fitted_index is None:
            return None
        step = self.steps[self._fitted_index]
        assert isinstance(step, Scale)
        return step

    @property
    def is_linear(self) -> bool:
        """Whether each feature is its coordinate times a fixed factor."""
        return all(isinstance(s, Scale) and s.is_linear for s in self.steps)

    def scale_linearly(self, name: str, weights: Tensor) -> Tensor:
        """Weights on features ``(..., D)`` as weights on gradients."""
        if self.scale is None:
            return weights
        _, factor = self.scale.offset_and_factor(name, weights)
        return weights * factor

    def partial_fit(self, blocks: Blocks) -> "Features":
        """Take one batch of gradients, name -> ``(..., D)``, into the statistics."""
        if self.scale is not None:
            steps = self.steps[: self._fitted_index]
            for name, block in blocks.items():
                self.scale.update(name, _apply_all(steps, name, block))
        return self

    def merge(self, other: "Features") -> "Features":
        """Take in the statistics of another chain of the same steps."""
        if self.scale is not None and other.scale is not None:
            self.scale.merge(other.scale)
        return self

    def transform(self, blocks: Blocks, inplace: bool = False) -> dict[str, Tensor]:
        """The features of gradients, name -> ``(..., D)``, of the same shapes.

        Args:
            blocks: the gradients.
            inplace: they may be overwritten; otherwise one copy is made.
        """
        return {
            name: _apply_all(self.steps, name, block, inplace)
            for name, block in blocks.items()
        }

    def state_dict(self) -> dict[str, Tensor]:
        """The fitted statistics, as tensors."""
        if self.scale is None:
            return {}
        return {
            f"{block}/{key}": value
            for block, statistics in self.scale.statistics.items()
            for key, value in statistics.state_dict().items()
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take the statistics that :meth:`state_dict` wrote."""
        if self.scale is None:
            return
        blocks: dict[str, dict[str, Tensor]] = {}
        for name, value in state.items():
            block, _, key = name.rpartition("/")
            blocks.setdefault(block, {})[key] = value
        self.scale.replace(
            {
                block: RunningStatistics.from_state_dict(found)
                for block, found in blocks.items()
            }
        )


def _apply_all(
    steps: Sequence[Step], name: str, block: Tensor, inplace: bool = False
) -> Tensor:
    """Apply steps to a block ``(..., D)``, piece by piece where that is faster."""
    if not steps or not block.numel():
        return block
    if not _is_plain(block):
        values = block if inplace else block.clone()
        for step in steps:
            values = step.apply(name, values)
        return values
    rows = block.reshape(-1, block.shape[-1])
    out = rows if inplace else torch.empty_like(rows)

    def apply_to_piece(piece: Tensor, target: Tensor) -> None:
        values = target if inplace else piece.clone()
        for step in steps:
            values = step.apply(name, values)
        if values.data_ptr() != target.data_ptr():
            target.copy_(values)

    length = max(1, int(PIECE_BYTES / (rows.shape[1] * rows.element_size())))
    for_each_piece(apply_to_piece, rows.split(length), out.split(length))
    return out.view(block.shape)


@dataclass(frozen=True)
class FeatureSettings(Validated):
    """The usual chain: select, scale, normalize, power; each may be left out.

    Attributes:
        percent: kept by magnitude in each block of each gradient; None keeps all.
        scaling: see :class:`Scale`, or ``none``.
        unit_norm: divide each block of each gradient by its L2 norm.
        power: the exponent of the signed power; None leaves the values.
    """

    percent: Percent | None = None
    scaling: Literal["min-max", "std", "standard", "max-abs", "none"] = "none"
    unit_norm: bool = False
    power: Exponent | None = None

    def make(self) -> Features:
        """A chain that is not fitted yet.

        Raises:
            GradnetError: a number is out of range.
        """
        steps: list[Step] = []
        if self.percent is not None:
            steps.append(SelectLargest(self.percent))
        if self.scaling != "none":
            steps.append(Scale(self.scaling))
        if self.unit_norm:
            steps.append(UnitNorm())
        if self.power is not None:
            steps.append(SignedPower(self.power))
        return Features(steps)
