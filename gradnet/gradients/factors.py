"""Factors of per-sample gradients: formed, measured or contracted only when asked.

The gradient of a linear map at one sample and label is a sum over places (pixels,
tokens) of outer products: output cotangent times layer input. Many things can be had
from the two factors without their product (Goodfellow, arXiv 1510.01799, for norms).
Letters as in ``blocks.py``, and ``G`` groups, ``R`` rows, ``S`` columns, ``T`` places.
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
    """Gradients that are there already: biases, normalization layers, the rest.

    Attributes:
        gradient: ``(N, C, *shape)``.
    """

    gradient: Tensor

    def form(self, out: Tensor, add: bool) -> None:
        """See :class:`Factors`."""
        if add:
            out += self.gradient
        else:
            out.copy_(self.gradient)  # nothing where it was formed in its place

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
    """Gradients ``(N, C, G R, S)`` as products ``left @ right`` over the places.

    Attributes:
        make: returns ``left (N, C, G, R, T)``, the cotangents, and ``right (N, G, T,
            S)``, the inputs; made when needed, since the patches of a convolution are
            larger than its input.
        transposed: the parameter holds the transposed matrices, ``(G S, R)``.
    """

    make: Callable[[], tuple[Tensor, Tensor]]
    transposed: bool = False

    def form(self, out: Tensor, add: bool) -> None:
        """See :class:`Factors`."""
        left, right = self.make()
        if out.dtype == torch.bfloat16:
            # Accumulated in float32 by the product; several times faster on a CPU.
            left, right = left.to(out.dtype), right.to(out.dtype)
        groups, in_place = left.shape[2], out.is_contiguous()
        if groups == 1 and in_place and not self.transposed and out.dtype == left.dtype:
            _multiply_into(out, left, right, add)
        else:
            Formed(self._multiply(left, right).reshape(out.shape)).form(out, add)

    def _multiply(self, left: Tensor, right: Tensor) -> Tensor:
        """``(N, C, G, R, S)``, the last two exchanged if ``transposed``."""
        rows = left.shape[3]
        # Labels are rows of one product a group, not a batch of small products.
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
        _, labels, groups, rows, places = left.shape
        units, columns = len(weight), right.shape[-1]
        # Multiplications a sample, in units of R S: through the inputs, or by forming.
        fused = places * units * (1 + labels / columns)
        formed = labels * (places + units)
        if fused > formed:
            return self._multiply(left, right).flatten(2) @ weight.T
        shape = (columns, rows) if self.transposed else (rows, columns)
        matrices = weight.reshape(units, groups, *shape)
        order = "hgsr" if self.transposed else "hgrs"
        through = torch.einsum(f"{order},ngts->nhgrt", matrices, right)
        return torch.einsum("ncgrt,nhgrt->nch", left, through)

    def squared_norm(self) -> Tensor:
        """See :class:`Factors`."""
        left, right = self.make()
        _, labels, _, rows, places = left.shape
        columns = right.shape[-1]
        if places * (labels * rows + columns + labels) > labels * rows * columns:
            return self._multiply(left, right).flatten(2).square().sum(-1)
        of_right = right @ right.transpose(-1, -2)
        of_left = left.transpose(-1, -2) @ left
        return torch.einsum("ncgtu,ngtu->nc", of_left, of_right)


def _multiply_into(out: Tensor, left: Tensor, right: Tensor, add: bool) -> None:
    """``left @ right`` of one group, straight into its place."""
    count, labels, _, rows, places = left.shape
    columns = right.shape[-1]
    target = out.view(count, labels * rows, columns)
    flat_left, flat_right = left.reshape(count, labels * rows, places), right[:, 0]
    if places == 1 and not add:
        torch.mul(flat_left, flat_right, out=target)
    else:
        target.baddbmm_(flat_left, flat_right, beta=int(add))


@dataclass(frozen=True)
class FactoredBlock:
    """The gradients of one block, ``(N, C, D)``, of which nothing is formed yet.

    Attributes:
        block: names and shapes of its parameters.
        parts: parameter name -> what each use of its layer adds.
        count: ``(N, C)``.
        dtype: of the factors.
        device: where.
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
        """The gradients of one parameter, ``(N, C, *shape)``; in ``out`` if given."""
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

        Parameter by parameter in the cheaper way: through the factors, at about H times
        the cost of the layer, or by forming the gradients, at C times that and
        ``D H C`` more.
        """
        total = self.new_zeros(len(weight))
        parts = weight.split(self.block.sizes, dim=1)
        for name, part in zip(self.block.shapes, parts, strict=True):
            if not self.parts[name]:
                total = total + 0 * part.sum(1)  # zero, and so are its derivatives
            for factors in self.parts[name]:
                total = total + factors.contract(part)
        return total

    def norms(self) -> Tensor:
        """L2 norms ``(N, C)``; from the factors where that is cheaper."""
        total = self.new_zeros()
        for name, factors in self.parts.items():
            # The norm of a sum is not the sum of the norms: several uses are formed.
            if len(factors) == 1:
                total += factors[0].squared_norm()
            else:
                total += self.form_parameter(name).flatten(2).square().sum(-1)
        return total.clamp_(min=0).sqrt_()
