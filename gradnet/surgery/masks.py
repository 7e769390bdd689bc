"""Masks that keep deleted weights at zero through training, momentum and decay.

A masked weight is a ``torch.nn.utils.parametrize`` parametrization: the optimizer
trains the original, the layer uses the original times its mask, and the mask is a
buffer, so that it is saved in the ``state_dict``.
"""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

from gradnet.core.flops import count_parameters
from gradnet.errors import InvalidInputError


class Mask(nn.Module):
    """Zeroes the deleted entries of a weight.

    Args:
        kept: bool, of the weight's shape.
    """

    kept: Tensor

    def __init__(self, kept: Tensor) -> None:
        super().__init__()
        self.register_buffer("kept", kept.clone())

    def forward(self, weight: Tensor) -> Tensor:
        """The weight, zero where it is deleted."""
        return weight * self.kept

    def right_inverse(self, weight: Tensor) -> Tensor:
        """The original: deleted entries start at zero, and get no gradient."""
        return weight * self.kept


def prunable_weights(model: nn.Module) -> list[str]:
    """Names of the weights of linear and convolutional layers, without biases.

    Args:
        model: masked or not; the names are those without masks.

    Raises:
        InvalidInputError: there are none.
    """
    layers = model.named_modules()
    names = [f"{n}.weight".lstrip(".") for n, m in layers if _has_weight(m)]
    if not names:
        kind = type(model).__name__
        raise InvalidInputError(f"{kind} has no linear or convolutional layer to prune")
    return names


def _has_weight(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear | _ConvNd)


def has_masks(model: nn.Module) -> bool:
    """Whether any weight is masked, or parametrized in another way."""
    return any(parametrize.is_parametrized(layer) for layer in model.modules())


def masks_of(model: nn.Module) -> dict[str, Tensor]:
    """Weight name -> which entries are kept, bool; all where nothing is masked."""
    masks = {}
    for name in prunable_weights(model):
        mask = _mask_of(model, name)
        weight = _owner(model, name).weight
        assert isinstance(weight, Tensor)
        whole = torch.ones_like(weight, dtype=torch.bool)
        masks[name] = whole if mask is None else mask.kept.clone()
    return masks


def with_masks(model: nn.Module, kept: Mapping[str, Tensor]) -> nn.Module:
    """A copy whose weights have masks.

    Args:
        model: without masks; not modified.
        kept: weight name -> which entries to keep, bool ``(*shape)``.
    """
    model = copy.deepcopy(model)
    for name, mask in kept.items():
        parametrize.register_parametrization(_owner(model, name), "weight", Mask(mask))
    return model


def without_masks(model: nn.Module) -> nn.Module:
    """A copy of plain layers, deleted entries zero; what surgery takes."""
    model = copy.deepcopy(model)
    for layer in [m for m in model.modules() if _has_weight(m)]:
        if not parametrize.is_parametrized(layer, "weight"):
            continue
        # Not torch's own removal: it takes the weight from the class, which the copy
        # shares with the network that was copied.
        weight = layer.weight
        assert isinstance(weight, Tensor)
        trains = layer.get_parameter("parametrizations.weight.original").requires_grad
        layer.__class__ = parametrize.type_before_parametrizations(layer)
        del layer.parametrizations
        layer.weight = nn.Parameter(weight.detach(), requires_grad=trains)
    return model


def original_name(model: nn.Module, name: str) -> str:
    """The name of a weight among the parameters, where it is masked another one."""
    if _mask_of(model, name) is None:
        return name
    layer, _, leaf = name.rpartition(".")
    return f"{layer}.parametrizations.{leaf}.original".lstrip(".")


def count_remaining(model: nn.Module, *, trainable_only: bool = False) -> int:
    """The number of parameters that are not deleted, biases and norms counted in.

    Args:
        model: masked or not.
        trainable_only: leave out what is frozen.
    """
    deleted = 0
    for weight in model.modules():
        if not isinstance(weight, parametrize.ParametrizationList):
            continue
        if weight.get_parameter("original").requires_grad or not trainable_only:
            masks = [part.kept for part in weight if isinstance(part, Mask)]
            deleted += sum(int((~mask).sum()) for mask in masks)
    return count_parameters(model, trainable_only=trainable_only) - deleted


def _owner(model: nn.Module, name: str) -> nn.Module:
    return model.get_submodule(name.rpartition(".")[0])


def _mask_of(model: nn.Module, name: str) -> Mask | None:
    layer = _owner(model, name)
    if not parametrize.is_parametrized(layer, "weight"):
        return None
    mask = layer.get_submodule("parametrizations.weight.0")
    if not isinstance(mask, Mask):
        raise InvalidInputError(
            f"{name} has a parametrization of another kind, {type(mask).__name__}; "
            "remove it before pruning"
        )
    return mask
