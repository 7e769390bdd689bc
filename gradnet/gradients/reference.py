"""The reference engine: one forward and one backward pass for each single sample.

It is slow and assumes nothing, so the other engines are compared with it.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gradnet.core.evaluation_mode import layerwise_attention
from gradnet.gradients.factors import Factors

# Allowed difference from the gradients of single samples, relative to their norm: far
# above rounding, and far below what an overlooked use of a weight contributes.
TOLERANCES = {torch.float64: 1e-7, torch.float32: 1e-4}
LOW_PRECISION_TOLERANCE = 0.03


def backward_passes(
    model: Callable[[Tensor], Tensor],
    parameters: Mapping[str, Tensor],
    x: Tensor,
    loss: Callable[[Tensor, int], Tensor],
) -> Iterator[dict[str, Tensor]]:
    """The gradients of single samples, one forward and one backward pass each.

    Args:
        model: maps ``(1, ...)`` to logits ``(1, K)``.
        parameters: name -> what to differentiate by; ``model`` must use these very
            tensors, and they must require a gradient.
        x: ``(N, ...)``.
        loss: function of the logits ``(1, K)`` and of the sample's index that returns a
            scalar.

    Yields:
        Of each sample, parameter name -> ``shape``; parameters that the loss does not
        depend on are left out.
    """
    for index in range(len(x)):
        with torch.enable_grad():
            # A copy: the model may overwrite it.
            value = loss(model(x[index : index + 1].clone()), index)
            found = torch.autograd.grad(
                value, list(parameters.values()), allow_unused=True
            )
        yield {
            name: gradient.to_dense()
            for name, gradient in zip(parameters, found, strict=True)
            if gradient is not None
        }


def gradients_one_by_one(
    model: nn.Module, names: Collection[str], x: Tensor, cotangents: Tensor
) -> dict[str, Tensor]:
    """The gradients of single samples, given the cotangents of their logits.

    Args:
        model: in evaluation mode; it is not modified.
        names: parameters to read, frozen or not.
        x: ``(N, ...)``.
        cotangents: of each sample's logits, ``(N, 1, K)``.

    Returns:
        Parameter name -> ``(N, 1, *shape)``; parameters that the logits do not depend
        on are left out.
    """
    weights = {name: model.get_parameter(name).detach().clone() for name in names}
    for weight in weights.values():
        weight.requires_grad_()

    def logits_of(sample: Tensor) -> Tensor:
        return functional_call(model, weights, (sample,))

    def loss(logits: Tensor, index: int) -> Tensor:
        return torch.dot(logits.flatten(), cotangents[index].flatten())

    with layerwise_attention():
        rows = list(backward_passes(logits_of, weights, x, loss))
    return {
        name: torch.stack(
            [row[name] if name in row else torch.zeros_like(weight) for row in rows]
        )[:, None]
        for name, weight in weights.items()
        if any(name in row for row in rows)
    }


def probe_cotangents(logits: Tensor) -> Tensor:
    """Different numbers for each sample and logit, ``(N, 1, K)``; deterministic."""
    count = torch.arange(1, logits.numel() + 1, device=logits.device)
    return torch.sin(count.to(logits.dtype)).view(len(logits), 1, -1)


def why_wrong(found: Sequence[Factors], expected: Tensor) -> str | None:
    """Why factors do not give the gradients ``(N, 1, *shape)`` of single samples.

    Args:
        found: the factors of a parameter, one for each use.
        expected: its gradients, see :func:`gradients_one_by_one`.

    Returns:
        The reason, to follow the parameter's name; None if they agree.
    """
    if not found:
        return "is used, but not by a call of its layer"
    actual = torch.zeros_like(expected)
    try:
        for factors in found:
            factors.form(actual, add=True)
    except (RuntimeError, IndexError) as error:
        return f"does not fit its layer's rule: {str(error).splitlines()[0]}"
    tolerance = TOLERANCES.get(expected.dtype, LOW_PRECISION_TOLERANCE)
    difference = torch.linalg.vector_norm(actual - expected)
    if difference <= tolerance * torch.linalg.vector_norm(expected):
        return None
    return (
        "differs from the gradient of a single sample: it is used in another way than "
        "by its layer's forward pass"
    )
