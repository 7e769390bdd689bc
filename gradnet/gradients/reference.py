"""Gradients of single samples by plain backward passes: slow, and beyond doubt."""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gradnet.core.evaluation_mode import layerwise_attention
from gradnet.gradients.factors import Factors

# Against gradients of single samples, relative to their norm: far above rounding, far
# below what a layer adds that was overlooked.
AGREEMENT = {torch.float64: 1e-7, torch.float32: 1e-4}
ROUGH_AGREEMENT = 0.03


def gradients_one_by_one(
    model: nn.Module, names: Collection[str], x: Tensor, cotangents: Tensor
) -> dict[str, Tensor]:
    """The gradients of single samples, one forward and one backward pass each.

    Args:
        model: in evaluation mode; it is left as it is.
        names: parameters to read, frozen or not.
        x: ``(N, ...)``.
        cotangents: of each sample's logits, ``(N, 1, K)``.

    Returns:
        Parameter name -> ``(N, 1, *shape)``; parameters that have no part in the
        logits are left out.
    """
    weights = {name: model.get_parameter(name).detach().clone() for name in names}
    rows: dict[str, list[Tensor]] = {name: [] for name in names}
    reached = set()
    for weight in weights.values():
        weight.requires_grad_()
    for sample, cotangent in zip(x, cotangents, strict=True):
        with torch.enable_grad(), layerwise_attention():
            logits = functional_call(model, weights, (sample[None].clone(),))
            found = torch.autograd.grad(
                logits, list(weights.values()), cotangent, allow_unused=True
            )
        for (name, weight), gradient in zip(weights.items(), found, strict=True):
            if gradient is not None:
                reached.add(name)
            rows[name].append(
                torch.zeros_like(weight) if gradient is None else gradient.to_dense()
            )
    return {
        name: torch.stack(found)[:, None]
        for name, found in rows.items()
        if name in reached
    }


def probe_cotangents(logits: Tensor) -> Tensor:
    """Other numbers for each sample and logit, ``(N, 1, K)``; the same every time."""
    count = torch.arange(1, logits.numel() + 1, device=logits.device)
    return torch.sin(count.to(logits.dtype)).view(len(logits), 1, -1)


def why_wrong(found: Sequence[Factors], expected: Tensor) -> str | None:
    """Why factors do not make the gradients ``(N, 1, *shape)`` of single samples."""
    if not found:
        return "is used, but not by a call of its layer"
    actual = torch.zeros_like(expected)
    try:
        for factors in found:
            factors.form(actual, add=True)
    except (RuntimeError, IndexError) as error:
        return f"does not fit its layer's rule: {str(error).splitlines()[0]}"
    tolerance = AGREEMENT.get(expected.dtype, ROUGH_AGREEMENT)
    difference = torch.linalg.vector_norm(actual - expected)
    if difference <= tolerance * torch.linalg.vector_norm(expected):
        return None
    return (
        "differs from the gradient of a single sample: it is used in another way than "
        "by its layer's forward pass"
    )
