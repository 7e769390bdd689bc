"""Optimal Brain Surgeon: prune a weight and adjust all others to compensate.

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

from gradnet.curvature.diagonal import gauss_newton_rows, hessian_matrix
from gradnet.errors import InvalidInputError
from gradnet.growth.method import EditContext
from gradnet.growth.methods.optimal_brain_damage import Pruning

MAX_WEIGHTS = 5000
BLOCK = 128  # vectors per step of the recursion


def inverse_by_recursion(
    rows: Iterable[Tensor], samples: int, damping: float
) -> Tensor:
    """The inverse of a damped mean of outer products, by rank-``n`` updates.

    The published recursion, ``I - I X X^T I / (N + X^T I X)`` for each vector ``X``,
    starting from ``1 / damping`` times the identity; here for several vectors at once
    (Woodbury identity), with the same result.

    Args:
        rows: chunks ``(n, P)`` of vectors, see
            :func:`gradnet.curvature.diagonal.gauss_newton_rows`.
        samples: ``N``, by which the sum of the outer products is divided.
        damping: added to the diagonal of the mean; 1e-8 to 1e-4 in the paper.

    Returns:
        ``(P, P)``, float64.

    Raises:
        InvalidInputError: there are no rows, or too many weights.
    """
    inverse: Tensor | None = None
    for vectors in (block for chunk in rows for block in chunk.split(BLOCK)):
        if inverse is None:
            size = vectors.shape[1]
            check_num_weights(size)
            inverse = torch.eye(size, dtype=torch.float64, device=vectors.device)
            inverse /= damping
        vectors = vectors.double()
        projected = vectors @ inverse
        inner = projected @ vectors.T
        inner.diagonal().add_(samples)
        inverse -= projected.T @ torch.linalg.solve(inner, projected)
    if inverse is None:
        raise InvalidInputError("the inverse Hessian needs samples, and there are none")
    return (inverse + inverse.T) / 2


def inverse_directly(matrix: Tensor, damping: float) -> Tensor:
    """The inverse of a matrix with ``damping`` added to its diagonal, by Cholesky.

    Args:
        matrix: symmetric ``(P, P)``.
        damping: added to its diagonal.

    Returns:
        ``(P, P)``, float64.

    Raises:
        InvalidInputError: it is not positive definite, or there are too many weights.
    """
    check_num_weights(len(matrix))
    damped = matrix.double().clone()
    damped.diagonal().add_(damping)
    factor, failed = torch.linalg.cholesky_ex((damped + damped.T) / 2)
    if failed:
        raise InvalidInputError(
            f"the Hessian with damping {damping:g} is not positive definite: train "
            "longer, increase the damping, or use curvature gauss_newton"
        )
    return torch.cholesky_inverse(factor)


def check_num_weights(size: int) -> None:
    """Check that the inverse Hessian is not too large.

    Args:
        size: number of weights.

    Raises:
        InvalidInputError: there are more than ``MAX_WEIGHTS`` weights.
    """
    if size > MAX_WEIGHTS:
        raise InvalidInputError(
            f"Optimal Brain Surgeon would need the inverse of a {size} x {size} "
            f"matrix; give a network of up to {MAX_WEIGHTS} weights, or use Optimal "
            "Brain Damage"
        )


def surgeon_saliencies(weights: Tensor, inverse: Tensor) -> Tensor:
    """The increase of the error by pruning each weight, ``w_q^2 / (2 I_qq)``.

    All other weights are adjusted to compensate.

    Args:
        weights: ``(P,)``.
        inverse: of the Hessian, ``(P, P)``.

    Returns:
        ``(P,)``.
    """
    return weights.square() / (2 * inverse.diagonal())


@dataclass(frozen=True)
class Deletions:
    """The result of successive deletions.

    Attributes:
        weights: all weights afterwards, ``(P,)``.
        deleted: indices of the deleted weights, in order.
        increases: predicted increase of the error by each deletion.
    """

    weights: Tensor
    deleted: list[int]
    increases: list[float]


def delete_weights(
    weights: Tensor, inverse: Tensor, candidates: Tensor, count: int
) -> Deletions:
    """Delete the weights of lowest saliency one at a time, adjusting all others.

    The error is assumed to be quadratic, so that the inverse Hessian of the remaining
    weights follows exactly from the previous one.

    Args:
        weights: ``(P,)``, not modified.
        inverse: of the Hessian, ``(P, P)``, not modified.
        candidates: which may be deleted, bool ``(P,)``; others are only adjusted.
        count: how many to delete.

    Returns:
        The weights afterwards, and what was deleted.

    Raises:
        InvalidInputError: there are fewer candidates.
    """
    if count > int(candidates.sum()):
        raise InvalidInputError(
            f"count is {count}, more than the {int(candidates.sum())} candidates"
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
        # Rounding errors here would grow with further deletions.
        weights[deleted] = 0
        inverse[index] = inverse[:, index] = 0
    return Deletions(weights, deleted, increases)


@dataclass(frozen=True, kw_only=True)
class OptimalBrainSurgeon(Pruning):
    """Train a small network, delete weight by weight, correct all others, retrain.

    Biases and norms are corrected, never deleted.

    Attributes:
        curvature: gauss_newton (by the published recursion) or hessian (inverted
            directly, where it is positive definite).
        damping: on the Hessian's diagonal; 1e-8 to 1e-4 as published.
    """

    curvature_samples: int = 1000
    curvature: Literal["gauss_newton", "hessian"] = "gauss_newton"
    damping: float = 1e-4

    def prune(
        self, model: nn.Module, kept: Mapping[str, Tensor], context: EditContext
    ) -> tuple[nn.Module, dict[str, Tensor]]:
        """Delete one weight after the other, with the Hessian before the first."""
        x, y = self.curvature_samples_of(context)
        parameters = dict(model.named_parameters())
        all_kept = {
            n: torch.ones_like(p, dtype=torch.bool) for n, p in parameters.items()
        }
        present = _flattened({**all_kept, **kept})
        check_num_weights(int(present.sum()))
        deletable = _flattened({n: m & (n in kept) for n, m in all_kept.items()})
        deletable = deletable[present]
        weights = parameters_to_vector(model.parameters()).detach().double()
        deletions = delete_weights(
            weights[present],
            self._inverse(model, x, y, present),
            deletable,
            math.floor(self.fraction * int(deletable.sum()) + 1e-9),
        )
        weights[present] = deletions.weights
        positions = present.nonzero().flatten()
        present[positions[deletions.deleted]] = False
        vector_to_parameters(weights.to(x.dtype), model.parameters())
        split = present.split([p.numel() for p in parameters.values()])
        masks = dict(zip(parameters, split, strict=True))
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
