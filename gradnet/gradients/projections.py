"""Reduce the coordinates of a block: random projections, fixed subsets, norms.

They read a block from its factors, so a large layer's gradients need not be formed.
Their random numbers depend on names, shapes and seeds alone, not on the engine.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from gradnet.core.reproducibility import make_generator
from gradnet.errors import GradnetError
from gradnet.gradients.factors import FactoredBlock
from gradnet.gradients.layout import Block

# A parameter of up to so many coordinates is projected by a dense matrix, which
# preserves lengths better; a larger one by outer products, without being formed.
MAX_DENSE = 16_384


class Reduction(Protocol):
    """What is kept of a block."""

    def size_of(self, block: Block) -> int:
        """How many numbers a gradient of this block becomes."""

    def apply(self, block: FactoredBlock) -> Tensor:
        """``(N, C, size)``."""

    def to_dict(self) -> dict[str, Any]:
        """Everything that the result depends on, for JSON."""


class Projection:
    """Random projection of each block, which preserves inner products in expectation.

    A matrix parameter G of more than :data:`MAX_DENSE` coordinates becomes ``u_j^T G
    v_j / sqrt(size)`` with random vectors u_j and v_j for each output j: where a layer
    has factors, both are projected, multiplied, and summed over positions. An inner
    product
    ``<a, b>`` of such gradients comes out with a standard deviation of at most
    ``sqrt(8 / size) |a| |b|``, less the higher their rank; of densely projected ones
    with at most ``sqrt(2 / size) |a| |b|`` (Johnson and Lindenstrauss).

    Args:
        size: numbers to which a block is reduced; smaller blocks are kept.
        kind: ``rademacher`` (random signs) or ``gaussian``.
        seed: of the random numbers; each parameter has its own.

    Raises:
        InvalidInputError: the size is below 1, or there is no such kind.

    Example:
        >>> from gradnet.gradients import GradientExtractor
        >>> extractor = GradientExtractor(torch.nn.Linear(20, 3))
        >>> x = torch.ones(2, 20)
        >>> logits, reduced = extractor.reduced(x, Projection(8))
        >>> {name: block.shape for name, block in reduced.items()}  # N, K and the size
        {'': torch.Size([2, 3, 8])}
    """

    def __init__(
        self,
        size: int,
        kind: Literal["rademacher", "gaussian"] = "rademacher",
        seed: int = 0,
    ) -> None:
        if size < 1:
            raise GradnetError(f"the projection's size is {size}; give 1 or more")
        if kind not in ("rademacher", "gaussian"):
            raise GradnetError(f"no projection {kind!r}: rademacher or gaussian")
        self.size, self.kind, self.seed = size, kind, seed
        self._matrices: dict[tuple[object, ...], Tensor] = {}

    def size_of(self, block: Block) -> int:
        """See :class:`Reduction`."""
        return min(self.size, block.size)

    def to_dict(self) -> dict[str, Any]:
        """See :class:`Reduction`."""
        about = {"size": self.size, "kind": self.kind, "seed": self.seed}
        return {"reduction": "projection", **about}

    def apply(self, block: FactoredBlock) -> Tensor:
        """See :class:`Reduction`."""
        if block.block.size <= self.size:
            return block.form()
        total = block.new_zeros(self.size)
        for name, shape in block.block.shapes.items():
            self._add_parameter(total, block, name, shape)
        return total.mul_(self.size**-0.5)

    def _add_parameter(
        self, total: Tensor, block: FactoredBlock, name: str, shape: tuple[int, ...]
    ) -> None:
        size = math.prod(shape)
        if size <= MAX_DENSE or len(shape) < 2:
            matrix = self._matrix(name, "dense", size, block)
            total += block.form_parameter(name).flatten(2) @ matrix.T
            return
        rows = self._matrix(name, "rows", shape[0], block)
        columns = self._matrix(name, "columns", size // shape[0], block)
        for factors in block.parts[name]:
            total += factors.project(rows, columns)

    def _matrix(self, name: str, role: str, size: int, like: FactoredBlock) -> Tensor:
        """``(self.size, size)``; drawn once, on the CPU, so equal on every device."""
        key = name, role, size, like.dtype, like.device
        if key not in self._matrices:
            generator = make_generator("projection", self.seed, name, role)
            shape = self.size, size
            if self.kind == "gaussian":
                matrix = torch.randn(shape, generator=generator)
            else:
                matrix = torch.randint(2, shape, generator=generator) * 2.0 - 1.0
            self._matrices[key] = matrix.to(like.device, like.dtype)
        return self._matrices[key]


@dataclass(frozen=True)
class Subset:
    """Some coordinates of each block, the same of every gradient.

    Args:
        size: coordinates to keep of a block; smaller blocks are kept.
        seed: of the choice; each block has its own.

    Raises:
        GradnetError: the size is below 1.
    """

    size: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size < 1:
            raise GradnetError(f"the subset's size is {self.size}; give 1 or more")

    def size_of(self, block: Block) -> int:
        """See :class:`Reduction`."""
        return min(self.size, block.size)

    def to_dict(self) -> dict[str, Any]:
        """See :class:`Reduction`."""
        return {"reduction": "subset", **asdict(self)}

    def coordinates(self, block: Block) -> Tensor:
        """The coordinates of the block that are kept, ascending."""
        generator = make_generator("subset", self.seed, block.name)
        order = torch.randperm(block.size, generator=generator)
        return order[: self.size].sort().values

    def apply(self, block: FactoredBlock) -> Tensor:
        """See :class:`Reduction`."""
        kept = self.coordinates(block.block).to(block.device)
        return block.form().index_select(2, kept)


@dataclass(frozen=True)
class Norm:
    """The L2 norm of each block; from the factors where that is cheaper."""

    def size_of(self, block: Block) -> int:
        """See :class:`Reduction`."""
        return 1

    def to_dict(self) -> dict[str, Any]:
        """See :class:`Reduction`."""
        return {"reduction": "norm"}

    def apply(self, block: FactoredBlock) -> Tensor:
        """See :class:`Reduction`."""
        return block.norms()[..., None]


REDUCTIONS: Mapping[str, Callable[..., Reduction]] = {
    "projection": Projection,
    "subset": Subset,
    "norm": Norm,
}
