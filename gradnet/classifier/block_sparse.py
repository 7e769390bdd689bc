"""BlockSparseLinear: hidden groups that each see one block, or a window of them."""

import functools
import operator
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from gradnet.errors import GradnetError
from gradnet.gradients.factors import FactoredBlock


class BlockSparseLinear(nn.Module):
    """The first layer of GradNet (arXiv 1912.09306, figure 1).

    Hidden group i sees the blocks i to i + window - 1 in network order; with a window
    of 1, one group a block. As a dense matrix it would be zero outside these places;
    :meth:`to_dense` makes that matrix.

    Args:
        block_sizes: block name -> ``D``, in network order.
        hidden: units of each group; a number gives every group that many.
        window: adjacent blocks that a group sees.
        bias: add a bias to each hidden unit.

    Raises:
        GradnetError: the window is not from 1 to ``B``, or the numbers of groups and of
            ``hidden`` differ, or a group has no unit.
    """

    def __init__(
        self,
        block_sizes: Mapping[str, int],
        hidden: int | Sequence[int],
        window: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.block_sizes = dict(block_sizes)
        if not 1 <= window <= len(self.block_sizes):
            raise GradnetError(
                f"a window of {window} does not fit {len(self.block_sizes)} blocks"
            )
        self.window = window
        num_groups = len(self.block_sizes) - window + 1
        self.hidden = [hidden] * num_groups if isinstance(hidden, int) else list(hidden)
        if len(self.hidden) != num_groups or min(self.hidden) < 1:
            raise GradnetError(
                f"hidden is {self.hidden}; it must give at least one unit to each of "
                f"the {num_groups} groups (blocks: {', '.join(self.block_sizes)})"
            )
        names = list(self.block_sizes)
        self.groups = [tuple(names[i : i + window]) for i in range(num_groups)]
        sizes = list(self.block_sizes.values())
        # A parameter for each pair of group and block: the blocks of a window are
        # multiplied where they lie, never joined.
        self.weights = nn.ParameterList(
            nn.Parameter(torch.empty(units, sizes[index + place]))
            for index, units in enumerate(self.hidden)
            for place in range(window)
        )
        self.bias = nn.Parameter(torch.zeros(self.out_features)) if bias else None
        self.reset_parameters()

    @property
    def out_features(self) -> int:
        """Hidden units of all groups together."""
        return sum(self.hidden)

    def reset_parameters(self, std: float | None = None) -> None:
        """New weights from N(0, std^2), biases zero.

        Args:
            std: None gives each unit ``1 / sqrt(fan in)``.
        """
        for blocks in self.weights_by_group():
            fan_in = sum(self.block_sizes[name] for name in blocks)
            for weight in blocks.values():
                nn.init.normal_(weight, std=fan_in**-0.5 if std is None else std)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, blocks: Mapping[str, Tensor | FactoredBlock]) -> Tensor:
        """Blocks, name -> ``(..., D)``, to hidden values ``(..., H of all groups)``.

        Blocks that are not formed are contracted in the cheaper of the two ways, see
        :meth:`FactoredBlock.contract`.
        """
        parts = []
        for weights in self.weights_by_group():
            terms = [
                _multiply(blocks[name], weight) for name, weight in weights.items()
            ]
            parts.append(functools.reduce(operator.add, terms))
        hidden = torch.cat(parts, dim=-1)
        return hidden if self.bias is None else hidden + self.bias

    def to_dense(self) -> nn.Linear:
        """The same map as one dense layer on flattened gradients ``(..., P)``."""
        sizes = list(self.block_sizes.values())
        dense = nn.Linear(sum(sizes), self.out_features, bias=self.bias is not None)
        dense = dense.to(self.weights[0])
        with torch.no_grad():
            dense.weight.zero_()
            row = 0
            for index, weights in enumerate(self.weights_by_group()):
                units, column = self.hidden[index], sum(sizes[:index])
                for weight in weights.values():
                    size = weight.shape[1]
                    dense.weight[row : row + units, column : column + size] = weight
                    column += size
                row += units
            if self.bias is not None:
                dense.bias.copy_(self.bias)
        return dense

    def extra_repr(self) -> str:
        """The groups, as they are printed."""
        return f"groups={self.groups}, hidden={self.hidden}"

    def weights_by_group(self) -> list[dict[str, nn.Parameter]]:
        """For each group, block name -> ``(H, D)``."""
        weights = iter(self.weights)
        return [{name: next(weights) for name in names} for names in self.groups]


def _multiply(block: Tensor | FactoredBlock, weight: Tensor) -> Tensor:
    """A block ``(..., D)`` with weights ``(H, D)``."""
    if isinstance(block, FactoredBlock):
        return block.contract(weight)
    return block @ weight.T
