"""Factors of per-sample gradients: formed, contracted or reduced on request.

The gradient of a linear map at one sample and label is a sum over positions (pixels,
tokens) of outer products: output cotangent times layer input. Norms, projections and
contractions can be computed from the two factors without their product (Goodfellow,
arXiv 1510.01799, for norms). Letters as in ``layout``, and ``G`` groups, ``R`` rows,
``S`` columns, ``T`` positions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from gradnet.gradients.layout import Block


class Factors(Protocol):
    """What one use of a layer adds to the gradients of one parameter."""

    def form(self, out: Tensor, add: bool) -> None:
        """Write the gradients into ``out``, ``(N, C, *shape)``, or add them to it."""

    def project(self, rows: Tensor, columns: Tensor) -> Tensor:
        """``(N, C, p)``: row-wise ``u^T gradient v``.

        Args:
            rows: ``(p, G R)``.
            columns: ``(p, S)``.
        """

    def contract(self, weight: Tensor) -> Tensor:
        """``(N, C, H)`` with weights ``(H, D)``; differentiable by them."""

    def squared_norm(self) -> Tensor:
        """``(N, C)``, the squared L2 norms."""


@dataclass(frozen=True)
class Formed:
    """Gradients that are formed already: of biases, normalization layers and others.

    Attributes:
        gradient: ``(N, C, *shape)``.
    """

    gradient: Tensor

    def form(self, out: Tensor, add: bool) -> None:
        """See :class:`Factors`."""
        if add:
            out += self.gradient
        else:
            out.copy_(self.gradient)  # no copy if it was formed in ``out``

    def project(self, rows: Tensor, columns: Tensor) -> Tensor:
        """See :class:`Factors`."""
        matrices = self.gradient.flatten(3).to(rows.dtype)
        return torch.einsum("ncrp,pr->ncp", matrices @ columns.T, rows)

    def contract(self, weight: Tensor) -> Tensor:
        """See :class:`Factors`."""
        return self.gradient.flatten(2) @ weight.T

    def squared_norm(self) -> Tensor:
        """See :class:`Factors`."""
        return self.gradient.flatten(2).square().sum(-1)


@dataclass(frozen=True)
class Product:
    """Gradients ``(N, C, G R, S)`` as products ``left @ right`` over the positions.

    Attributes:
        make: returns ``left (N, C, G, R, T)``, the cotangents, and ``right (N, G, T,
            S)``, the inputs. It is called when they are needed, since the patches of a
            convolution take more memory than its input.
        transposed: the parameter holds the transposed matrices, ``(G S, R)``.
    """

    make: Callable[[], tuple[Tensor, Tensor]]
    transposed: bool = False

    def form(self, out: Tensor, add: bool) -> None:
        """See :class:`Factors`."""
        left, right = self.make()
        if out.dtype == torch.bfloat16:
            # The product accumulates in float32; several times faster on a CPU.
            left, right = left.to(out.dtype), right.to(out.dtype)
        is_plain = out.is_contiguous() and out.dtype == left.dtype
        if left.shape[2] == 1 and is_plain and not self.transposed:
            _multiply_into(out, left, right, add)
        else:
            Formed(self._multiply(left, right).reshape(out.shape)).form(out, add)

    def _multiply(self, left: Tensor, right: Tensor) -> Tensor:
        """``(N, C, G, R, S)``, the last two exchanged if ``transposed``."""
        rows = left.shape[3]
        # One product a group with the labels as rows, not a batch of small products.
        matrices = left.permute(0, 2, 1, 3, 4).flatten(2, 3) @ right
        product = matrices.unflatten(2, (-1, rows)).transpose(1, 2)
        return product.transpose(3, 4) if self.transposed else product

    def project(self, rows: Tensor, columns: Tensor) -> Tensor:
        """See :class:`Factors`."""
        left, right = self.make()
        if self.transposed:
            rows, columns = columns, rows.unflatten(1, (left.shape[2], -1))
            of_left = torch.einsum("pr,ncgrt->ncgtp", rows, left)
            of_right = torch.einsum("pgs,ngts->ngtp", columns, right)
        else:
            rows = rows.unflatten(1, (left.shape[2], -1))
            of_left = torch.einsum("pgr,ncgrt->ncgtp", rows, left)
            of_right = right @ columns.T
        return torch.einsum("ncgtp,ngtp->ncp", of_left, of_right)

    def contract(self, weight: Tensor) -> Tensor:
        """See :class:`Factors`."""
        left, right = self.make()
        _, labels, groups, rows, positions = left.shape
        units, columns = len(weight), right.shape[-1]
        # Multiplications a sample, in units of R S: without forming, and by forming.
        factored = positions * units * (1 + labels / columns)
        formed = labels * (positions + units)
        if factored > formed:
            return self._multiply(left, right).flatten(2) @ weight.T
        shape = (columns, rows) if self.transposed else (rows, columns)
        matrices = weight.reshape(units, groups, *shape)
        order = "hgsr" if self.transposed else "hgrs"
        through = torch.einsum(f"{order},ngts->nhgrt", matrices, right)
        return torch.einsum("ncgrt,nhgrt->nch", left, through)

    def squared_norm(self) -> Tensor:
        """See :class:`Factors`."""
        left, right = self.make()
        _, labels, _, rows, positions = left.shape
        columns = right.shape[-1]
        if positions * (labels * rows + columns + labels) > labels * rows * columns:
            return self._multiply(left, right).flatten(2).square().sum(-1)
        of_right = right @ right.transpose(-1, -2)
        of_left = left.transpose(-1, -2) @ left
        return torch.einsum("ncgtu,ngtu->nc", of_left, of_right)


def _multiply_into(out: Tensor, left: Tensor, right: Tensor, add: bool) -> None:
    """Write ``left @ right`` of one group to ``out``, or add it."""
    count, labels, _, rows, positions = left.shape
    columns = right.shape[-1]
    target = out.view(count, labels * rows, columns)
    flat_left, flat_right = left.reshape(count, labels * rows, positions), right[:, 0]
    if positions == 1 and not add:
        torch.mul(flat_left, flat_right, out=target)
    else:
        target.baddbmm_(flat_left, flat_right, beta=int(add))


@dataclass(frozen=True)
class FactoredBlock:
    """The gradients of one block, ``(N, C, D)``, as factors.

    Attributes:
        block: names and shapes of its parameters.
        parts: parameter name -> the factors that each use of its layer adds.
        count: ``(N, C)``.
        dtype: of the factors.
        device: of the factors.

    Example:
        >>> from gradnet import GradientExtractor
        >>> layer = torch.nn.Linear(5, 3)
        >>> x = torch.ones(2, 5)
        >>> logits, blocks = GradientExtractor(layer).factored_blocks(x)
        >>> block = blocks[""]  # the name of the model itself
        >>> block.norms().shape  # N and K
        torch.Size([2, 3])
        >>> block.form().shape  # N, K and D
        torch.Size([2, 3, 15])
    """

    block: Block
    parts: Mapping[str, Sequence[Factors]]
    count: tuple[int, int]
    dtype: torch.dtype
    device: torch.device

    def new_zeros(self, *shape: int) -> Tensor:
        """``(N, C, *shape)``."""
        return torch.zeros(*self.count, *shape, dtype=self.dtype, device=self.device)

    def form_parameter(self, name: str, out: Tensor | None = None) -> Tensor:
        """The gradients of one parameter, ``(N, C, *shape)``, in ``out`` if given."""
        if out is None:
            shape = *self.count, *self.block.shapes[name]
            out = torch.empty(shape, dtype=self.dtype, device=self.device)
        if not self.parts[name]:
            out.zero_()
        for index, factors in enumerate(self.parts[name]):
            factors.form(out, add=index > 0)
        return out

    def form(self) -> Tensor:
        """The gradients ``(N, C, D)``."""
        names = self.block.shapes
        sizes = self.block.sizes
        parts = [
            self.form_parameter(name).reshape(*self.count, size)
            for name, size in zip(names, sizes, strict=True)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)

    def contract(self, weight: Tensor) -> Tensor:
        """Hidden values ``(N, C, H)`` of weights ``(H, D)``; differentiable by them.

        Each parameter takes the cheaper of two ways: by its factors, at about H times
        the cost of the layer, or by forming the gradients, at about C times that cost
        and ``D H C`` more multiplications.
        """
        total = self.new_zeros(len(weight))
        parts = weight.split(self.block.sizes, dim=1)
        for name, part in zip(self.block.shapes, parts, strict=True):
            if not self.parts[name]:
                total = total + 0 * part.sum(1)  # zero, with derivatives of zero
            for factors in self.parts[name]:
                total = total + factors.contract(part)
        return total

    def norms(self) -> Tensor:
        """L2 norms ``(N, C)``, by the factors where that is cheaper."""
        total = self.new_zeros()
        for name, factors in self.parts.items():
            # The norm of a sum is not the sum of norms, so several uses are formed.
            if len(factors) == 1:
                total += factors[0].squared_norm()
            else:
                total += self.form_parameter(name).flatten(2).square().sum(-1)
        return total.clamp_(min=0).sqrt_()
