"""Candidate labels, and the gradient of the loss with respect to the logits there."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.func import grad, vmap
from torch.nn import functional

from gradnet.errors import GradnetError

Loss = Callable[[Tensor, Tensor], Tensor]


def label_cotangents(logits: Tensor, labels: Tensor) -> Tensor:
    """The gradient of cross-entropy with respect to the logits, for candidate labels.

    It is ``softmax(z) - onehot(c)``; weighted by the probabilities of the labels, the
    cotangents of all of them sum to zero.

    Args:
        logits: ``(N, K)``.
        labels: ``(N, C)``.

    Returns:
        ``(N, C, K)``.
    """
    onehot = functional.one_hot(labels, logits.shape[-1])
    return logits.softmax(-1)[:, None] - onehot.to(logits.dtype)


def loss_cotangents(
    loss: Literal["cross_entropy"] | Loss, logits: Tensor, labels: Tensor
) -> Tensor:
    """The gradient of a loss with respect to the logits, for candidate labels.

    Args:
        loss: ``"cross_entropy"``, or a function of logits ``(K,)`` and a label ``()``.
        logits: ``(N, K)``.
        labels: ``(N, C)``.

    Returns:
        ``(N, C, K)``.
    """
    if isinstance(loss, str):
        return label_cotangents(logits, labels)
    per_label = vmap(grad(loss), in_dims=(None, 0))
    return vmap(per_label)(logits, labels)


def check_labels(
    labels: Tensor | None, count: int, num_logits: int, device: torch.device
) -> Tensor:
    """The labels to read, ``(N, C)``; all K of each sample for None.

    Raises:
        GradnetError: their shape or type is wrong, or one is out of range.
    """
    if labels is None:
        return torch.arange(num_logits, device=device).expand(count, -1)
    if labels.dim() != 2 or len(labels) != count:
        raise GradnetError(
            f"labels are {tuple(labels.shape)} for {count} samples; they must be (N, C)"
        )
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise GradnetError(f"labels are {labels.dtype}; they must be whole numbers")
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < num_logits:
        bad = labels[(labels < 0) | (labels >= num_logits)][0].item()
        raise GradnetError(
            f"label {bad} is out of range: the model has {num_logits} logits, labels "
            f"go from 0 to {num_logits - 1}"
        )
    return labels.to(device=device, dtype=torch.long)
