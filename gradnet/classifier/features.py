"""Features of gradients: a chain of steps, applied block by block.

At most one step of a chain is fitted, so a fit is one pass over the gradients. The
steps are in :mod:`gradnet.classifier.feature_steps`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gradnet.classifier.feature_steps import (
    Scale,
    SelectLargest,
    SignedPower,
    Step,
    UnitNorm,
    can_use_numpy,
)
from gradnet.core.running_statistics import RunningStatistics
from gradnet.core.threads import for_each_piece
from gradnet.errors import InvalidInputError

Blocks = Mapping[str, Tensor]

# On a CPU all steps are applied to so many bytes of a block before the next, so that
# they pass through the cache once, and not through memory once a step.
PIECE_BYTES = 4e6


class Features:
    """A chain of steps, fitted on training gradients only.

    Args:
        steps: applied in this order; at most one :class:`Scale`.

    Raises:
        InvalidInputError: more than one step is a :class:`Scale`, so that fitting would
            take a second pass.

    Example:
        >>> features = Features([SelectLargest(50), Scale("max-abs")])
        >>> training = {"fc": torch.tensor([[1.0, 0.0, -4.0], [2.0, 0.0, 3.0]])}
        >>> block = torch.tensor([[1.0, -0.5, 2.0]])
        >>> features.partial_fit(training).transform({"fc": block})
        {'fc': tensor([[0.0000, 0.0000, 0.5000]])}
    """

    def __init__(self, steps: Sequence[Step] = ()) -> None:
        self.steps = list(steps)
        fitted = [index for index, s in enumerate(steps) if isinstance(s, Scale)]
        if len(fitted) > 1:
            raise InvalidInputError(
                "at most one step may be a Scale: a fit is one pass"
            )
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
        """The weights on gradients that equal weights ``(..., D)`` on their features.

        It is defined where :attr:`is_linear` holds.
        """
        if self.scale is None:
            return weights
        _, factor = self.scale.offset_and_factor(name, weights)
        return weights * factor

    def partial_fit(self, blocks: Blocks) -> "Features":
        """Add a batch of gradients, block name -> ``(..., D)``, to the statistics."""
        if self.scale is not None:
            steps = self.steps[: self._fitted_index]
            for name, block in blocks.items():
                self.scale.update(name, _apply_all(steps, name, block))
        return self

    def merge(self, other: "Features") -> "Features":
        """Add the statistics of another chain of the same steps."""
        if self.scale is not None and other.scale is not None:
            self.scale.merge(other.scale)
        return self

    def transform(self, blocks: Blocks, inplace: bool = False) -> dict[str, Tensor]:
        """The features of gradients, of the same shapes.

        Args:
            blocks: the gradients, block name -> ``(..., D)``.
            inplace: overwrite the gradients where possible; otherwise copy them.

        Raises:
            NotFittedError: the scaling was not fitted for a block.
            InvalidInputError: a block has another size than the fitted one.
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
        """Load the statistics that :meth:`state_dict` returned."""
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
    if not can_use_numpy(block):
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
class FeatureSettings:
    """Settings of the usual chain: select, scale, normalize, power; all optional.

    Attributes:
        percent: kept by magnitude in each block of each gradient; None keeps all.
        scaling: see :class:`Scale`, or ``none``.
        unit_norm: divide each block of each gradient by its L2 norm.
        power: the exponent of the signed power; None leaves the values.
    """

    percent: float | None = None
    scaling: Literal["min-max", "std", "standard", "max-abs", "none"] = "none"
    unit_norm: bool = False
    power: float | None = None

    def make(self) -> Features:
        """A chain that is not fitted yet.

        Raises:
            InvalidInputError: a number is out of range.
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
