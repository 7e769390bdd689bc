"""Rebuild a network with more or fewer channels, from the origins of its entries."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from gradnet.core.reproducibility import isolated_randomness
from gradnet.surgery.channels.groups import ChannelGroup
from gradnet.surgery.channels.streams import ChannelSlice, Role
from gradnet.surgery.edit import Origin, identity_origins


def group_origins(
    model: nn.Module,
    group: ChannelGroup,
    sources: Tensor,
    shares: Tensor | None = None,
) -> dict[str, Origin]:
    """The origins of all parameters and buffers after a change of a group's channels.

    Args:
        model: the old network.
        group: the channels, which change together.
        sources: the old channel of each new one, or -1 for a new one, ``(new width,)``.
        shares: factors of the outgoing weights of each channel, and by the chain rule
            of the gradients of its incoming weights, ``(new width,)``; None for 1.

    Returns:
        Parameter or buffer name -> origin.
    """
    origins = identity_origins(model)
    for (layer, dimension), slices in group.by_dimension().items():
        module = model.get_submodule(layer)
        parameters = dict(module.named_parameters(recurse=False))
        is_consumer = slices[0].role == "consumer"
        for leaf, old in (*parameters.items(), *module.named_buffers(recurse=False)):
            if old.ndim <= dimension:
                continue
            name, size = f"{layer}.{leaf}", old.shape[dimension]
            before = origins[name]
            indices = {dimension: _new_indices(slices, group.width, sources, size)}
            scale, gradient_scale = {}, {}
            if shares is not None:
                factors = {dimension: expand_values(slices, group.width, shares, size)}
                scale = factors if is_consumer else {}
                gradient_scale = (
                    factors if leaf in parameters and not is_consumer else {}
                )
            origins[name] = Origin(
                name,
                {**before.indices, **indices},
                {**before.scale, **scale},
                {**before.gradient_scale, **gradient_scale},
            )
    return origins


def expand_values(
    slices: Sequence[ChannelSlice],
    width: int,
    values: Tensor,
    size: int,
    rest: float = 1,
) -> Tensor:
    """Per-channel values, expanded along a dimension of a tensor.

    Args:
        slices: the slices of the channels along the old dimension, by offset.
        width: the old number of channels.
        values: one for each new channel, ``(new width,)``.
        size: the old size of the dimension.
        rest: the value at all indices that belong to other channels.

    Returns:
        ``(new size of the dimension,)``.
    """
    others = torch.full((size,), rest, dtype=values.dtype)
    return _joined(slices, width, others, lambda s: values.repeat_interleave(s.repeat))


def _new_indices(
    slices: Sequence[ChannelSlice], width: int, sources: Tensor, size: int
) -> Tensor:
    def within(channels: ChannelSlice) -> Tensor:
        adjacent = torch.arange(channels.repeat)
        first = channels.offset + sources[:, None] * channels.repeat
        indices = first + adjacent
        return indices.masked_fill(sources[:, None] < 0, -1).flatten()

    return _joined(slices, width, torch.arange(size), within)


def _joined(
    slices: Sequence[ChannelSlice],
    width: int,
    others: Tensor,
    values: Callable[[ChannelSlice], Tensor],
) -> Tensor:
    """The values of each slice, and ``others`` outside all slices."""
    pieces, end = [], 0
    for channels in slices:
        pieces += [others[end : channels.offset], values(channels)]
        end = channels.offset + width * channels.repeat
    return torch.cat([*pieces, others[end:]])


def rebuild(
    model: nn.Module,
    group: ChannelGroup,
    width: int,
    origins: Mapping[str, Origin],
    seed: int = 0,
) -> nn.Module:
    """A copy of a network with another number of channels.

    Args:
        model: the old network.
        group: the channels to change.
        width: the new number of channels.
        origins: of :func:`group_origins`.
        seed: of the entries without a source, which are initialized as in a new layer
            of the new size.

    Returns:
        The new network, which shares no memory with the old one.
    """
    rebuilt = copy.deepcopy(model)
    for (name, dimension), slices in group.by_dimension().items():
        change = (width - group.width) * sum(part.repeat for part in slices)
        _resize(rebuilt.get_submodule(name), slices[0].role, dimension, change)
    with isolated_randomness():
        torch.manual_seed(seed)
        for name in dict.fromkeys(part.layer for part in group.slices):
            _replace_entries(rebuilt.get_submodule(name), name, origins)
    return rebuilt


def _resize(layer: nn.Module, role: Role, dimension: int, change: int) -> None:
    if isinstance(layer, nn.LayerNorm | nn.RMSNorm):
        shape = list(layer.normalized_shape)
        shape[dimension] += change
        layer.normalized_shape = tuple(shape)
        return
    end = {"producer": "out", "consumer": "in"}.get(role)
    names: tuple[str, ...]
    if isinstance(layer, nn.Linear):
        names = (f"{end}_features",)
    elif isinstance(layer, _ConvNd):
        depthwise = ("in_channels", "out_channels", "groups")
        names = (f"{end}_channels",) if end else depthwise
    elif isinstance(layer, _NormBase):
        names = ("num_features",)
    else:
        names = ("num_parameters" if isinstance(layer, nn.PReLU) else "num_channels",)
    for name in names:
        setattr(layer, name, getattr(layer, name) + change)


@torch.no_grad()
def _replace_entries(
    layer: nn.Module, name: str, origins: Mapping[str, Origin]
) -> None:
    """Set all entries from their origins, and initialize those without a source."""
    created = {}
    for leaf, old in layer.state_dict().items():
        origin = origins[f"{name}.{leaf}"]
        new = origin.scaled(old)
        if leaf in dict(layer.named_parameters()):
            requires_grad = layer.get_parameter(leaf).requires_grad
            new = nn.Parameter(new, requires_grad=requires_grad)
        setattr(layer, leaf, new)
        if any((index < 0).any() for index in origin.indices.values()):
            created[leaf] = origin.gather(torch.ones_like(old)) == 0
    if created:
        fresh: Any = copy.deepcopy(layer)
        fresh.reset_parameters()
        for leaf, is_new in created.items():
            kept: Tensor = getattr(layer, leaf)
            kept.copy_(torch.where(is_new, getattr(fresh, leaf), kept))
