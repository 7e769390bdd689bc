"""BlockSparseLinear: groups of hidden units that each see one block or a window."""

import functools
import operator
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from gradnet.errors import InvalidInputError
from gradnet.gradients.factors import FactoredBlock


class BlockSparseLinear(nn.Module):
    """The first layer of GradNet (arXiv 1912.09306, figure 1).

    Hidden group i sees the blocks i to i + window - 1 in network order; with a window
    of 1 there is one group for each block. It equals a dense layer whose matrix is zero
    elsewhere, which :meth:`to_dense` returns.

    Args:
        block_sizes: block name -> ``D``, in network order.
        hidden: units of each group; one number serves all groups.
        window: the number of adjacent blocks that a group sees.
        bias: add a bias to each hidden unit.

    Raises:
        InvalidInputError: the window is not from 1 to ``B``, or ``hidden`` does not
            give each group at least one unit.

    Example:
        >>> layer = BlockSparseLinear({"conv": 6, "fc": 4}, hidden=[3, 2])
        >>> layer({"conv": torch.ones(5, 6), "fc": torch.ones(5, 4)}).shape
        torch.Size([5, 5])
        >>> (layer.to_dense().weight != 0).sum().item()  # 3 * 6 + 2 * 4 of 5 * 10
        26
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
            raise InvalidInputError(
                f"a window of {window} does not fit {len(self.block_sizes)} blocks"
            )
        self.window = window
        num_groups = len(self.block_sizes) - window + 1
        self.hidden = [hidden] * num_groups if isinstance(hidden, int) else list(hidden)
        if len(self.hidden) != num_groups or min(self.hidden) < 1:
            raise InvalidInputError(
                f"hidden is {self.hidden}; it must give at least one unit to each of "
                f"the {num_groups} groups (blocks: {', '.join(self.block_sizes)})"
            )
        names = list(self.block_sizes)
        self.groups = [tuple(names[i : i + window]) for i in range(num_groups)]
        sizes = list(self.block_sizes.values())
        # One parameter for each pair of group and block, so that the blocks of a window
        # need not be concatenated.
        self.weights = nn.ParameterList(
            nn.Parameter(torch.empty(units, size))
            for index, units in enumerate(self.hidden)
            for size in sizes[index : index + window]
        )
        self.bias = nn.Parameter(torch.zeros(self.out_features)) if bias else None
        self.reset_parameters()

    @property
    def out_features(self) -> int:
        """Hidden units of all groups together."""
        return sum(self.hidden)

    def reset_parameters(self, std: float | None = None) -> None:
        """Draw weights from N(0, std^2) and set biases to zero.

        Args:
            std: None takes ``1 / sqrt(fan-in)`` for each unit.
        """
        for blocks in self.weights_by_group():
            fan_in = sum(self.block_sizes[name] for name in blocks)
            for weight in blocks.values():
                nn.init.normal_(weight, std=fan_in**-0.5 if std is None else std)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, blocks: Mapping[str, Tensor | FactoredBlock]) -> Tensor:
        """Hidden values ``(..., H)`` of all groups, concatenated.

        Args:
            blocks: block name -> ``(..., D)``; blocks of factors are contracted, see
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
        """An equal dense layer on flattened gradients ``(..., P)``."""
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
        """The groups, for ``repr``."""
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
