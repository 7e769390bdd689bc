"""Checks of the samples and the labels that gradients are asked for."""

import torch
from torch import Tensor, nn

from gradnet.core.evaluation_mode import check_evaluation_mode
from gradnet.errors import InvalidInputError


def check_inputs(
    model: nn.Module, x: Tensor, labels: Tensor | None
) -> tuple[Tensor, int]:
    """Check samples and labels, and that the model maps the samples to logits.

    Args:
        model: maps ``(N, ...)`` to logits ``(N, K)``; it is run on one sample.
        x: ``(N, ...)``.
        labels: ``(N, C)``; None takes all K.

    Returns:
        The labels ``(N, C)``, and ``K``.

    Raises:
        InvalidInputError: a layer changes from call to call, an input is not finite,
            the model does not return ``(N, K)``, or the labels do not fit.
    """
    check_evaluation_mode(model)
    if x.is_floating_point() and not torch.isfinite(x).all():
        raise InvalidInputError("the input has values that are not finite")
    # A copy: the model may overwrite it.
    probe = x[:1].clone() if len(x) else x.new_zeros(1, *x.shape[1:])
    with torch.no_grad():
        logits = model(probe)
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits)
        raise InvalidInputError(f"the model returns {shape}, not logits (N, K)")
    num_logits = logits.shape[1]
    return check_labels(labels, len(x), num_logits, x.device), num_logits


def check_labels(
    labels: Tensor | None, count: int, num_logits: int, device: torch.device
) -> Tensor:
    """The candidate labels ``(N, C)``; all K of each sample for None.

    Args:
        labels: ``(N, C)`` or None.
        count: ``N``.
        num_logits: ``K``.
        device: where the result is.

    Raises:
        InvalidInputError: their shape or type is wrong, or one is out of range.
    """
    if labels is None:
        return torch.arange(num_logits, device=device).expand(count, -1)
    if labels.dim() != 2 or len(labels) != count:
        raise InvalidInputError(
            f"labels are {tuple(labels.shape)} for {count} samples; they must be (N, C)"
        )
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise InvalidInputError(
            f"labels are {labels.dtype}; they must be whole numbers"
        )
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < num_logits:
        bad = labels[(labels < 0) | (labels >= num_logits)][0].item()
        raise InvalidInputError(
            f"label {bad} is out of range: the model has {num_logits} logits, labels "
            f"go from 0 to {num_logits - 1}"
        )
    return labels.to(device=device, dtype=torch.long)
