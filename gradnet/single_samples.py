"""Gradients of single samples by plain backward passes: slow, and beyond doubt."""

from collections.abc import Collection

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gradnet.evaluation_mode import layerwise_attention


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
