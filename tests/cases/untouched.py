"""A network as it was, object by object and bit by bit."""

from typing import Any

import torch
from torch import nn

PLAIN = (int, float, str, bool, type(None))


def photograph(model: nn.Module) -> list[Any]:
    """All that can be seen of a network; equal before and after means untouched.

    Objects are kept, not their ids, so that none is freed and its id used again.
    """
    found: list[Any] = []
    for name, layer in model.named_modules():
        for key, value in vars(layer).items():
            if isinstance(value, dict):  # parameters, buffers, children, hooks
                entry: Any = [(k, _Same(v)) for k, v in value.items()]
            else:
                entry = value if isinstance(value, PLAIN) else _Same(value)
            found.append((name, key, entry))
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        bits = tensor.detach().clone().reshape(-1).view(torch.uint8).tolist()
        gradient = tensor.grad if tensor.is_leaf else None
        values = None if gradient is None else gradient.tolist()
        found.append((name, bits, tensor.requires_grad, _Same(gradient), values))
        found.append((name, tensor.data_ptr(), tensor._version))
    return found


class _Same:
    """Equal only to one of the same object."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value
