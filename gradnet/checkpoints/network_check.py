"""Whether a user's network takes the data: one input through it, and its logits."""

import torch
from torch import Tensor, nn

from gradnet.core.memory import is_failed_allocation
from gradnet.core.text import reason_of
from gradnet.errors import GradnetError, InvalidInputError


def output_of(network: nn.Module, x: Tensor) -> object:
    """What a network returns for a few inputs.

    Args:
        network: the user's; its code may raise anything.
        x: inputs ``(N, ...)``, prepared.

    Raises:
        InvalidInputError: the network fails on them.
    """
    shape = tuple(x.shape[1:])
    about = " (channels, height, width)" if len(shape) == 3 else ""
    try:
        with torch.no_grad():
            return network(x)
    except GradnetError:
        raise
    except Exception as error:
        if is_failed_allocation(error):
            raise
        raise InvalidInputError(
            f"the network fails on an image of {shape}{about}: {reason_of(error)}"
        ) from error


def logits_of(network: nn.Module, x: Tensor) -> Tensor:
    """The logits ``(N, K)`` of a few inputs ``(N, ...)``.

    Args:
        network: the user's.
        x: inputs, prepared.

    Raises:
        InvalidInputError: the network fails on them, or returns something else.
    """
    logits = output_of(network, x)
    if not isinstance(logits, Tensor):
        raise InvalidInputError(
            f"the network returns a {type(logits).__name__} and not logits (N, K); "
            "wrap it in a module that returns them"
        )
    if logits.dim() != 2 or len(logits) != len(x) or not logits.is_floating_point():
        raise InvalidInputError(
            f"the network returns {logits.dtype} of shape {tuple(logits.shape)} for "
            f"{len(x)} inputs; give one that returns logits (N, K)"
        )
    return logits


def check_classes(logits: Tensor, num_classes: int) -> None:
    """Check that there is a logit for each class.

    Args:
        logits: ``(N, K)``.
        num_classes: of the data.

    Raises:
        InvalidInputError: there is another number of them.
    """
    count = logits.shape[1]
    if count != num_classes:
        raise InvalidInputError(
            f"the network has {count} {'logit' if count == 1 else 'logits'}, the data "
            f"have {num_classes} classes; give a network with a logit for each class "
            f"(with --model-args '{{\"num_classes\": {num_classes}}}', perhaps)"
        )
