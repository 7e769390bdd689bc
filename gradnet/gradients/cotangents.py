"""Label cotangents: the gradient of the loss with respect to the logits."""

from collections.abc import Callable

from torch import Tensor
from torch.func import grad, vmap
from torch.nn import functional

from gradnet.core.registry import Registry
from gradnet.errors import InvalidInputError

Loss = Callable[[Tensor, Tensor], Tensor]

# Its cotangents have a closed form, which the tangent model relies on.
CROSS_ENTROPY = "cross_entropy"


def label_cotangents(logits: Tensor, labels: Tensor) -> Tensor:
    """The gradient of cross-entropy with respect to the logits, for candidate labels.

    It is ``softmax(z) - onehot(c)``. The cotangents of all labels, weighted by their
    probabilities, sum to zero.

    Args:
        logits: ``(N, K)``.
        labels: ``(N, C)``.

    Returns:
        ``(N, C, K)``.
    """
    onehot = functional.one_hot(labels, logits.shape[-1])
    return logits.softmax(-1)[:, None] - onehot.to(logits.dtype)


def loss_cotangents(loss: str | Loss, logits: Tensor, labels: Tensor) -> Tensor:
    """The gradient of a loss with respect to the logits, for candidate labels.

    Args:
        loss: a name of :data:`LOSSES`, or a function of logits ``(K,)`` and a label
            ``()``.
        logits: ``(N, K)``.
        labels: ``(N, C)``.

    Returns:
        ``(N, C, K)``.

    Raises:
        InvalidInputError: there is no loss of this name.
    """
    if loss == CROSS_ENTROPY:
        return label_cotangents(logits, labels)
    function = LOSSES.find(loss) if isinstance(loss, str) else loss
    per_label = vmap(grad(function), in_dims=(None, 0))
    return vmap(per_label)(logits, labels)


def register_loss(name: str, loss: Loss, *, replace: bool = False) -> None:
    """Give a loss of your own a name, for the ``loss`` of a GradientExtractor.

    Installed packages can add losses as entry points of the group ``gradnet.losses``.

    Args:
        name: a new key of :data:`LOSSES`.
        loss: function of logits ``(K,)`` and a label ``()`` that returns a scalar, by
            operations that ``torch.func`` can differentiate and batch.
        replace: allow a name that is already there; ``cross_entropy`` stays.

    Raises:
        InvalidInputError: the name is taken or not allowed, or the loss cannot be
            called.

    Example:
        >>> import torch
        >>> def sharpened(logits, label):
        ...     return functional.cross_entropy(2 * logits, label)
        >>> register_loss("sharpened", sharpened)
        >>> loss_cotangents("sharpened", torch.zeros(1, 2), torch.tensor([[0]]))
        tensor([[[-1.,  1.]]])
        >>> LOSSES.unregister("sharpened")
    """
    LOSSES.register(name, loss, replace=replace)


def _check_loss(name: str, loss: object) -> None:
    if name == CROSS_ENTROPY:
        raise InvalidInputError(f"the loss {name!r} cannot be replaced")
    if not callable(loss):
        raise InvalidInputError(
            f"loss {name!r}: give a function of logits and label, not {loss!r}"
        )


LOSSES: Registry[Loss] = Registry(
    "loss",
    {CROSS_ENTROPY: functional.cross_entropy},
    group="gradnet.losses",
    check=_check_loss,
)
