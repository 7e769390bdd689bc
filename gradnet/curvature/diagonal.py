"""Diagonals of second derivatives of the loss, exact or estimated.

| kind | what it is | networks |
|---|---|---|
| ``recursion`` | the published backward pass with the terms in ``f''`` | Sequential |
| ``levenberg_marquardt`` | the same without these terms: never negative | Sequential |
| ``gauss_newton`` | the exact diagonal of the Gauss-Newton matrix | any |
| ``hessian`` | the exact diagonal of the Hessian | any, but small |

All are for the error averaged over samples: see
:func:`gradnet.curvature.lecun1990.error_derivatives`.
"""

from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vjp, vmap
from torch.nn import functional

from gradnet.core.evaluation_mode import (
    check_evaluation_mode,
    differentiable_attention,
)
from gradnet.curvature.lecun1990 import (
    ErrorName,
    as_targets,
    error_derivatives,
    recursive_diagonal,
)
from gradnet.errors import InvalidInputError
from gradnet.gradients.extractor import GradientExtractor

CurvatureName = Literal["recursion", "levenberg_marquardt", "gauss_newton", "hessian"]

MAX_MEMORY = "256MB"
BATCH_SIZE = 250


def curvature_diagonal(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    kind: CurvatureName = "gauss_newton",
    error: ErrorName = "cross_entropy",
) -> dict[str, Tensor]:
    """The diagonal of the second derivatives of the mean error, of the chosen kind.

    Args:
        model: in evaluation mode; not modified.
        x: ``(N, ...)``.
        y: labels ``(N,)``, or for a squared error targets ``(N, K)``.
        kind: see the table of this module.
        error: ``cross_entropy`` or ``squared_error``.

    Returns:
        Parameter name -> ``(*shape)``.

    Raises:
        InvalidInputError: ``kind`` is unknown, or not defined for the network.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(2, 1, bias=False).eval()
        >>> x, y = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0]])
        >>> curvature_diagonal(model, x, y, error="squared_error")
        {'weight': tensor([[2., 8.]])}
    """
    if kind in ("recursion", "levenberg_marquardt"):
        omit_activation_curvature = kind == "levenberg_marquardt"
        return recursive_diagonal(
            model, x, y, error, omit_activation_curvature=omit_activation_curvature
        )
    if kind == "gauss_newton":
        return gauss_newton_diagonal(model, x, error)
    if kind == "hessian":
        return hessian_diagonal(model, x, y, error)
    raise InvalidInputError(
        f"no curvature {kind!r}; there are: recursion, levenberg_marquardt, "
        "gauss_newton, hessian"
    )


def gauss_newton_diagonal(
    model: nn.Module, x: Tensor, error: ErrorName = "cross_entropy"
) -> dict[str, Tensor]:
    """The exact diagonal of the generalized Gauss-Newton matrix; never negative.

    It does not depend on the labels.

    Args:
        model: any that
            :class:`~gradnet.gradients.extractor.GradientExtractor` supports; not
            modified.
        x: ``(N, ...)``.
        error: see :func:`curvature_diagonal`.

    Returns:
        Parameter name -> ``(*shape)``.

    Raises:
        InvalidInputError: see :class:`~gradnet.gradients.extractor.GradientExtractor`.
    """
    sums: dict[str, Tensor] = {}
    for weights, gradients in _label_gradients(model, x, error):
        for name, gradient in gradients.items():
            squares = gradient.flatten(0, 1).flatten(1).square_()
            total = (weights.flatten() @ squares).reshape(gradient.shape[2:])
            sums[name] = sums.get(name, 0) + total
    return {name: total / len(x) for name, total in sums.items()}


def gauss_newton_rows(
    model: nn.Module, x: Tensor, error: ErrorName = "cross_entropy"
) -> Iterator[Tensor]:
    """Rows whose outer products, summed and divided by N, are the Gauss-Newton matrix.

    Args:
        model: see :func:`gauss_newton_diagonal`.
        x: ``(N, ...)``.
        error: see :func:`curvature_diagonal`.

    Yields:
        ``(n K, P)`` of ``n`` samples at a time, in the order of ``named_parameters``.

    Raises:
        InvalidInputError: see :class:`~gradnet.gradients.extractor.GradientExtractor`.
    """
    names = [name for name, _ in model.named_parameters()]
    for weights, gradients in _label_gradients(model, x, error):
        rows = torch.cat([gradients[name].flatten(2) for name in names], dim=2)
        yield (rows * weights.sqrt()[..., None]).flatten(0, 1)


def _label_gradients(
    model: nn.Module, x: Tensor, error: ErrorName
) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """The factors of the Gauss-Newton matrix, chunk by chunk.

    For cross-entropy the Hessian with respect to the logits is the expectation of
    ``g g^T`` over labels drawn from the network's softmax, with ``g`` the gradient at
    the label, so that all-label gradients suffice. For a squared error the gradients
    are those of the outputs.

    Yields:
        Weights ``(n, K)``, and parameter name -> gradients ``(n, K, *shape)``.
    """
    is_squared = error == "squared_error"
    extractor = GradientExtractor(
        model,
        layers="*",
        biases=True,
        loss=_output if is_squared else "cross_entropy",
        max_memory=MAX_MEMORY,
    )
    for _, logits, gradients in extractor.chunks(x):
        curvature = error_derivatives(error, logits, torch.zeros_like(logits))[1]
        yield curvature if is_squared else logits.softmax(1), gradients


def _output(logits: Tensor, label: Tensor) -> Tensor:
    return logits.gather(0, label[None])[0]


def hessian_diagonal(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    error: ErrorName = "cross_entropy",
    *,
    coordinates: int = 32,
) -> dict[str, Tensor]:
    """The exact diagonal of the Hessian, at a cost of one pass per weight.

    Args:
        model: small, and supported by ``torch.func``; not modified.
        x: ``(N, ...)``.
        y: see :func:`curvature_diagonal`.
        error: see :func:`curvature_diagonal`.
        coordinates: number of weights differentiated at once.

    Returns:
        Parameter name -> ``(*shape)``; entries may be negative.

    Raises:
        InvalidInputError: a layer is stochastic or updates its state.
    """
    parts = []
    for start, rows in _hessian_rows(model, x, y, error, coordinates):
        parts.append(rows.diagonal(start))
    return _unflattened(model, torch.cat(parts))


def hessian_matrix(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    error: ErrorName = "cross_entropy",
    *,
    coordinates: int = 32,
) -> Tensor:
    """The Hessian ``(P, P)``, in the order of ``named_parameters``.

    Args:
        model: see :func:`hessian_diagonal`.
        x: ``(N, ...)``.
        y: see :func:`curvature_diagonal`.
        error: see :func:`curvature_diagonal`.
        coordinates: number of weights differentiated at once.

    Returns:
        ``(P, P)``, symmetric up to rounding.

    Raises:
        InvalidInputError: a layer is stochastic or updates its state.
    """
    rows = _hessian_rows(model, x, y, error, coordinates)
    return torch.cat([part for _, part in rows])


def _hessian_rows(
    model: nn.Module, x: Tensor, y: Tensor, error: ErrorName, coordinates: int
) -> Iterator[tuple[int, Tensor]]:
    """Chunks of rows ``(n, P)`` of the Hessian, with the index of their first row."""
    check_evaluation_mode(model)
    flat = torch.cat([p.detach().flatten() for p in model.parameters()])
    batches = list(zip(x.split(BATCH_SIZE), y.split(BATCH_SIZE), strict=True))
    for start in range(0, len(flat), coordinates):
        size = min(coordinates, len(flat) - start)
        directions = flat.new_zeros(size, len(flat))
        directions.diagonal(start).fill_(1)
        total = torch.zeros_like(directions)
        for batch, labels in batches:
            summed = _summed_error(model, batch, labels, error)
            with differentiable_attention():
                # The Hessian is symmetric, so that the vjp is the product with it.
                pullback = vjp(grad(summed), flat)[1]
                total += vmap(pullback)(directions)[0]
        yield start, total / len(x)


def _summed_error(
    model: nn.Module, x: Tensor, y: Tensor, error: ErrorName
) -> Callable[[Tensor], Tensor]:
    """The error of a batch as a function of all weights ``(P,)``."""
    buffers = dict(model.named_buffers())

    def summed(flat: Tensor) -> Tensor:
        weights = _unflattened(model, flat)
        logits = functional_call(model, {**weights, **buffers}, (x,))
        targets = as_targets(y, logits)
        if error == "squared_error":
            return (logits - targets).square().sum()
        return functional.cross_entropy(logits, targets, reduction="sum")

    return summed


def _unflattened(model: nn.Module, flat: Tensor) -> dict[str, Tensor]:
    """Parameter name -> its part of ``(P,)``."""
    parameters = dict(model.named_parameters())
    parts = flat.split([p.numel() for p in parameters.values()])
    named = zip(parameters.items(), parts, strict=True)
    return {name: part.reshape(p.shape) for (name, p), part in named}
