"""Optimal Brain Surgeon: delete a weight and adjust all others to compensate.

B. Hassibi and D. G. Stork, Second order derivatives for network pruning: Optimal Brain
Surgeon, NIPS 5, 1992. With the inverse ``I`` of the full Hessian, deleting weight ``q``
adds ``L_q = w_q^2 / (2 I_qq)`` to the error when the others change by ``-I_q w_q /
I_qq``; this is never more than with Optimal Brain Damage on the same Hessian. The
matrix has one row per weight, so networks must be small.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from gradnet.core.validation import Count, Positive
from gradnet.curvature.diagonal import gauss_newton_rows, hessian_matrix
from gradnet.errors import InvalidInputError
from gradnet.growth.method import EditContext
from gradnet.growth.methods.optimal_brain_damage import Pruning

MAX_WEIGHTS = 5000
BLOCK = 128  # vectors that are taken in at once


def inverse_by_recursion(
    rows: Iterable[Tensor], samples: int, damping: float
) -> Tensor:
    """The inverse of a sum of outer products, built up from the inverse of ``damping``.

    The published recursion, ``I - I X X^T I / (N + X^T I X)`` for each vector ``X``,
    but for several vectors at once (Woodbury), which is the same.

    Args:
        rows: parts ``(n, P)``, see
            :func:`gradnet.curvature.diagonal.gauss_newton_rows`; with a row each
            the recursion is as published.
        samples: ``N``, which the sum of the outer products is divided by.
        damping: added to the diagonal of that; 1e-8 to 1e-4 as published.

    Returns:
        ``(P, P)``, float64.

    Raises:
        InvalidInputError: there are no rows, or too many weights.
    """
    inverse: Tensor | None = None
    for vectors in (block for part in rows for block in part.split(BLOCK)):
        if inverse is None:
            size = vectors.shape[1]
            check_num_weights(size)
            inverse = torch.eye(size, dtype=torch.float64, device=vectors.device)
            inverse /= damping
        vectors = vectors.double()
        through = vectors @ inverse
        inner = through @ vectors.T
        inner.diagonal().add_(samples)
        inverse -= through.T @ torch.linalg.solve(inner, through)
    if inverse is None:
        raise InvalidInputError("no samples were given; the inverse Hessian needs some")
    return (inverse + inverse.T) / 2


def inverse_directly(matrix: Tensor, damping: float) -> Tensor:
    """The inverse of a matrix with ``damping`` on its diagonal.

    Args:
        matrix: symmetric ``(P, P)``.
        damping: added to its diagonal.

    Returns:
        ``(P, P)``, float64.

    Raises:
        InvalidInputError: it has directions of negative curvature, or too many weights.
    """
    check_num_weights(len(matrix))
    damped = matrix.double().clone()
    damped.diagonal().add_(damping)
    factor, failed = torch.linalg.cholesky_ex((damped + damped.T) / 2)
    if failed:
        raise InvalidInputError(
            f"the Hessian with damping {damping:g} is not positive definite: train on "
            "to a minimum, raise the damping, or use the curvature gauss_newton"
        )
    return torch.cholesky_inverse(factor)


def check_num_weights(size: int) -> None:
    """Check that the matrix fits into memory.

    Raises:
        InvalidInputError: there are more than ``MAX_WEIGHTS`` weights.
    """
    if size > MAX_WEIGHTS:
        raise InvalidInputError(
            f"Optimal Brain Surgeon needs the inverse of a {size} x {size} matrix; it "
            f"takes networks of up to {MAX_WEIGHTS} weights; use Optimal Brain Damage"
        )


def surgeon_saliencies(weights: Tensor, inverse: Tensor) -> Tensor:
    """What deleting each weight adds to the error when all others compensate for it.

    Args:
        weights: ``(P,)``.
        inverse: of the Hessian, ``(P, P)``.

    Returns:
        ``(P,)``.
    """
    return weights.square() / (2 * inverse.diagonal())


@dataclass(frozen=True)
class Surgery:
    """What was deleted, one after the other.

    Attributes:
        weights: all ``(P,)`` afterwards.
        deleted: indices, in order.
        increases: of the error by each deletion, as predicted.
    """

    weights: Tensor
    deleted: list[int]
    increases: list[float]


def delete_weights(
    weights: Tensor, inverse: Tensor, candidates: Tensor, count: int
) -> Surgery:
    """Delete the weights that cost least, one at a time; all others change with each.

    The error is taken as quadratic: the inverse for the weights that are left follows
    from the one before, and is exact.

    Args:
        weights: ``(P,)``, not modified.
        inverse: of the Hessian, ``(P, P)``, not modified.
        candidates: which may be deleted, bool ``(P,)``; others change only.
        count: how many to delete.

    Raises:
        InvalidInputError: there are fewer candidates.
    """
    if count > int(candidates.sum()):
        raise InvalidInputError(
            f"{count} weights are to be deleted, of {int(candidates.sum())} candidates"
        )
    weights, inverse, candidates = weights.clone(), inverse.clone(), candidates.clone()
    deleted, increases = [], []
    for _ in range(count):
        costs = surgeon_saliencies(weights, inverse)
        index = int(costs.masked_fill(~candidates, torch.inf).argmin())
        increases.append(costs[index].item())
        column = inverse[index].clone()
        weights -= weights[index] / column[index] * column
        inverse -= torch.outer(column, column) / column[index]
        deleted.append(index)
        candidates[index] = False
        # What rounding left of it would grow with the next deletions.
        weights[deleted] = 0
        inverse[index] = inverse[:, index] = 0
    return Surgery(weights, deleted, increases)


@dataclass(frozen=True, kw_only=True)
class OptimalBrainSurgeon(Pruning):
    """Train a small network, delete weight by weight, correct all others, retrain.

    Biases and norms are corrected, never deleted.

    Attributes:
        curvature: gauss_newton (by the published recursion) or hessian (inverted
            directly, where it is positive definite).
        damping: on the Hessian's diagonal; 1e-8 to 1e-4 as published.
    """

    curvature_samples: Count = 1000
    curvature: Literal["gauss_newton", "hessian"] = "gauss_newton"
    damping: Positive = 1e-4

    def prune(
        self, model: nn.Module, kept: Mapping[str, Tensor], context: EditContext
    ) -> tuple[nn.Module, dict[str, Tensor]]:
        """Delete one weight after the other; the Hessian is that before the first."""
        x, y = self.learned_from(context)
        parameters = dict(model.named_parameters())
        whole = {n: torch.ones_like(p, dtype=torch.bool) for n, p in parameters.items()}
        present = _flattened({**whole, **kept})
        check_num_weights(int(present.sum()))
        deletable = _flattened({n: m & (n in kept) for n, m in whole.items()})
        deletable = deletable[present]
        weights = parameters_to_vector(model.parameters()).detach().double()
        surgery = delete_weights(
            weights[present],
            self._inverse(model, x, y, present),
            deletable,
            math.floor(self.fraction * int(deletable.sum()) + 1e-9),
        )
        weights[present] = surgery.weights
        place = present.nonzero().flatten()
        present[place[surgery.deleted]] = False
        vector_to_parameters(weights.to(x.dtype), model.parameters())
        parts = present.split([p.numel() for p in parameters.values()])
        masks = dict(zip(parameters, parts, strict=True))
        return model, {n: masks[n].reshape(m.shape) for n, m in kept.items()}

    def _inverse(
        self, model: nn.Module, x: Tensor, y: Tensor, present: Tensor
    ) -> Tensor:
        if self.curvature == "hessian":
            matrix = hessian_matrix(model, x, y)[present][:, present]
            return inverse_directly(matrix, self.damping)
        rows = (part[:, present] for part in gauss_newton_rows(model, x))
        return inverse_by_recursion(rows, len(x), self.damping)


def _flattened(named: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([part.flatten() for part in named.values()])
