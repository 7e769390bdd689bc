"""BlockLayout: which coordinates of a gradient belong to which layer.

No other module computes offsets. Letters, here and wherever gradients are passed on:
``N`` samples, ``C`` candidate labels, ``K`` logits, ``B`` blocks, ``D`` coordinates of
one block, ``P`` all coordinates, ``H`` hidden units. The gradients of all labels are
``(N, C, *shape)`` a parameter, ``(N, C, D)`` a block, ``(N, C, P)`` flattened.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import accumulate

import torch
from torch import Tensor, nn

from gradnet.errors import InvalidInputError


@dataclass(frozen=True)
class Block:
    """The parameters of one layer that are read, in the layer's own order.

    Attributes:
        name: the layer's module name, such as ``conv0`` or ``encoder.2.linear1``.
        shapes: parameter name -> shape.
    """

    name: str
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def sizes(self) -> list[int]:
        """The number of coordinates of each parameter."""
        return [math.prod(shape) for shape in self.shapes.values()]

    @property
    def size(self) -> int:
        """``D``, the number of coordinates."""
        return sum(self.sizes)


@dataclass(frozen=True)
class BlockLayout:
    """Names, shapes, sizes and offsets of the blocks, in network order.

    Attributes:
        blocks: the blocks; their coordinates follow each other in this order, a
            block's parameters one after the other, each flattened in C order.

    Example:
        >>> model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        >>> layout = BlockLayout.of(model)
        >>> layout.slices
        {'0': slice(0, 12, None), '2': slice(12, 20, None)}
        >>> layout.split(torch.ones(5, 20))["2"].shape
        torch.Size([5, 8])
        >>> BlockLayout.of(model, layers="0", biases=True).shapes
        {'0.weight': (4, 3), '0.bias': (4,)}
    """

    blocks: tuple[Block, ...]

    @classmethod
    def of(
        cls,
        model: nn.Module,
        layers: str | Sequence[str] | None = None,
        biases: bool = False,
    ) -> "BlockLayout":
        """The layout of a model's parameters.

        Args:
            model: any module; a parameter shared by several layers counts once, in
                the first of them.
            layers: name patterns (``fnmatch``: ``conv*``) of the layers to read. None
                reads every layer; frozen parameters are then left out, while a layer
                that a pattern names is read whether frozen or not.
            biases: read the biases too.

        Raises:
            InvalidInputError: a pattern matches no layer, or nothing is left to read.
        """
        patterns = [layers] if isinstance(layers, str) else layers
        shapes: dict[str, dict[str, tuple[int, ...]]] = {}
        for name, parameter in model.named_parameters():
            layer, _, leaf = name.rpartition(".")
            if "bias" in leaf and not biases:
                continue
            if patterns is None and not parameter.requires_grad:
                continue
            shapes.setdefault(layer, {})[name] = tuple(parameter.shape)
        layout = cls(tuple(Block(layer, named) for layer, named in shapes.items()))
        if patterns is not None:
            return layout.select(patterns)
        if not layout.blocks:
            raise InvalidInputError(
                "the model has no trainable weights to read gradients of; name frozen "
                "layers with layers=['*'], and ask for biases with biases=True"
            )
        return layout

    @property
    def names(self) -> tuple[str, ...]:
        """The blocks' names, ``B`` of them."""
        return tuple(block.name for block in self.blocks)

    @property
    def sizes(self) -> tuple[int, ...]:
        """``D`` of each block."""
        return tuple(block.size for block in self.blocks)

    @property
    def size(self) -> int:
        """``P``, the number of all coordinates."""
        return sum(self.sizes)

    @property
    def slices(self) -> dict[str, slice]:
        """Block name -> the slice of its coordinates among all ``P``."""
        ends = list(accumulate(self.sizes))
        return {
            block.name: slice(end - block.size, end)
            for block, end in zip(self.blocks, ends, strict=True)
        }

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Parameter name -> shape, in order."""
        return {
            name: shape for block in self.blocks for name, shape in block.shapes.items()
        }

    def select(self, patterns: str | Sequence[str]) -> "BlockLayout":
        """The layout of those blocks whose names match any of ``patterns``.

        Raises:
            InvalidInputError: a pattern matches no block.
        """
        patterns = [patterns] if isinstance(patterns, str) else list(patterns)
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in self.names):
                raise InvalidInputError(
                    f"no layer matches {pattern!r}; the layers with weights are: "
                    + ", ".join(self.names)
                )
        return BlockLayout(
            tuple(
                block
                for block in self.blocks
                if any(fnmatchcase(block.name, pattern) for pattern in patterns)
            )
        )

    def to_blocks(self, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Join the parameters of each block: ``(..., *shape)`` to ``(..., D)``.

        A block of one parameter is a view, not a copy.
        """
        return {block.name: _join(block, gradients) for block in self.blocks}

    def from_blocks(self, blocks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The inverse of :meth:`to_blocks`: views, one a parameter."""
        gradients = {}
        for block in self.blocks:
            parts = blocks[block.name].split(block.sizes, dim=-1)
            for (name, shape), part in zip(block.shapes.items(), parts, strict=True):
                gradients[name] = part.unflatten(-1, shape) if shape else part[..., 0]
        return gradients

    def flatten(self, gradients: Mapping[str, Tensor]) -> Tensor:
        """All parameters as one tensor: ``(..., *shape)`` each to ``(..., P)``."""
        return torch.cat(list(self.to_blocks(gradients).values()), dim=-1)

    def split(self, flat: Tensor) -> dict[str, Tensor]:
        """The blocks of a flat tensor: ``(..., P)`` to views ``(..., D)``.

        Raises:
            InvalidInputError: the last dimension is not ``P``.
        """
        if flat.shape[-1] != self.size:
            raise InvalidInputError(
                f"the layout has {self.size} coordinates, the tensor "
                f"{flat.shape[-1]}; were they made with the same layers?"
            )
        return {name: flat[..., part] for name, part in self.slices.items()}

    def to_dict(self) -> dict[str, dict[str, list[int]]]:
        """Plain lists, for JSON; :meth:`from_dict` reads them."""
        return {
            block.name: {name: list(shape) for name, shape in block.shapes.items()}
            for block in self.blocks
        }

    @classmethod
    def from_dict(
        cls, blocks: Mapping[str, Mapping[str, Iterable[int]]]
    ) -> "BlockLayout":
        """The layout that :meth:`to_dict` wrote."""
        return cls(
            tuple(
                Block(layer, {name: tuple(shape) for name, shape in shapes.items()})
                for layer, shapes in blocks.items()
            )
        )


def allocate(
    shapes: Mapping[str, tuple[int, ...]],
    count: Sequence[int],
    dtype: torch.dtype,
    device: torch.device | str,
) -> dict[str, Tensor]:
    """Uninitialized tensors: name -> ``(N, C, *shape)``, ``count`` being ``(N, C)``."""
    return {
        name: torch.empty(*count, *shape, dtype=dtype, device=device)
        for name, shape in shapes.items()
    }


def _join(block: Block, gradients: Mapping[str, Tensor]) -> Tensor:
    parts = []
    for name, shape in block.shapes.items():
        gradient = gradients[name]
        leading = gradient.shape[: gradient.dim() - len(shape)]
        parts.append(gradient.reshape(*leading, math.prod(shape)))
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
