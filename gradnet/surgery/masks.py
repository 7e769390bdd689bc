"""Masks that keep pruned weights at zero during training.

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
    """Zeroes the pruned entries of a weight.

    Args:
        kept: which entries remain, bool, of the weight's shape.
    """

    kept: Tensor

    def __init__(self, kept: Tensor) -> None:
        super().__init__()
        self.register_buffer("kept", kept.clone())

    def forward(self, weight: Tensor) -> Tensor:
        """The weight, zero where it is pruned."""
        return weight * self.kept

    def right_inverse(self, weight: Tensor) -> Tensor:
        """The original parameter: pruned entries are zero, and get no gradient."""
        return weight * self.kept


def prunable_weights(model: nn.Module) -> list[str]:
    """Names of the weights of linear and convolutional layers, without biases.

    Args:
        model: with or without masks.

    Returns:
        The names that the weights have without masks.

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
    """Which entries of each prunable weight are kept.

    Args:
        model: with or without masks.

    Returns:
        Weight name -> bool ``(*shape)``; all true for a weight without a mask.
    """
    masks = {}
    for name in prunable_weights(model):
        mask = _mask_of(model, name)
        weight = _owner(model, name).weight
        assert isinstance(weight, Tensor)
        whole = torch.ones_like(weight, dtype=torch.bool)
        masks[name] = whole if mask is None else mask.kept.clone()
    return masks


def with_masks(model: nn.Module, kept: Mapping[str, Tensor]) -> nn.Module:
    """A copy of a network with masks on its weights.

    Args:
        model: without masks; not modified.
        kept: weight name -> which entries to keep, bool ``(*shape)``.

    Returns:
        The copy; the masked weights have other names among its parameters, see
        :func:`original_name`.
    """
    model = copy.deepcopy(model)
    for name, mask in kept.items():
        parametrize.register_parametrization(_owner(model, name), "weight", Mask(mask))
    return model


def without_masks(model: nn.Module) -> nn.Module:
    """A copy with ordinary weights instead of masked ones, as edits need it.

    Args:
        model: with or without masks; not modified.

    Returns:
        The copy, in which pruned entries are zero.
    """
    model = copy.deepcopy(model)
    for layer in [m for m in model.modules() if _has_weight(m)]:
        if not parametrize.is_parametrized(layer, "weight"):
            continue
        # Not remove_parametrizations: it deletes the weight's property from the class,
        # which the copy shares with the given network.
        weight = layer.weight
        assert isinstance(weight, Tensor)
        trains = layer.get_parameter("parametrizations.weight.original").requires_grad
        layer.__class__ = parametrize.type_before_parametrizations(layer)
        del layer.parametrizations
        layer.weight = nn.Parameter(weight.detach(), requires_grad=trains)
    return model


def original_name(model: nn.Module, name: str) -> str:
    """The name of the parameter that holds a weight, which differs if it is masked."""
    if _mask_of(model, name) is None:
        return name
    layer, _, leaf = name.rpartition(".")
    return f"{layer}.parametrizations.{leaf}.original".lstrip(".")


def count_remaining(model: nn.Module, *, trainable_only: bool = False) -> int:
    """The number of parameters that are not pruned, biases and norms included.

    Args:
        model: with or without masks.
        trainable_only: do not count frozen parameters.
    """
    pruned = 0
    for weight in model.modules():
        if not isinstance(weight, parametrize.ParametrizationList):
            continue
        if weight.get_parameter("original").requires_grad or not trainable_only:
            masks = [part.kept for part in weight if isinstance(part, Mask)]
            pruned += sum(int((~mask).sum()) for mask in masks)
    return count_parameters(model, trainable_only=trainable_only) - pruned


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
