"""Networks rebuilt with more or fewer channels, from the origins of their entries."""

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
from gradnet.surgery.edit import Origin, unchanged


def group_origins(
    model: nn.Module,
    group: ChannelGroup,
    sources: Tensor,
    shares: Tensor | None = None,
) -> dict[str, Origin]:
    """The origins of all entries after the channels of a group have changed.

    Args:
        model: the old network.
        group: the channels, which change together.
        sources: ``(new width,)``, the old channel of each new one, or -1.
        shares: ``(new width,)``, what outgoing weights are multiplied by, and by the
            chain rule the gradients of what makes the channels.
    """
    origins = unchanged(model)
    for (layer, dimension), places in group.by_dimension().items():
        module = model.get_submodule(layer)
        parameters = dict(module.named_parameters(recurse=False))
        consumed = places[0].role == "consumer"
        for leaf, old in (*parameters.items(), *module.named_buffers(recurse=False)):
            if old.ndim <= dimension:
                continue
            name, size = f"{layer}.{leaf}", old.shape[dimension]
            before = origins[name]
            indices = {dimension: _new_indices(places, group.width, sources, size)}
            scale, gradient_scale = {}, {}
            if shares is not None:
                factors = {dimension: spread(places, group.width, shares, size)}
                scale = factors if consumed else {}
                gradient_scale = factors if leaf in parameters and not consumed else {}
            origins[name] = Origin(
                name,
                {**before.indices, **indices},
                {**before.scale, **scale},
                {**before.gradient_scale, **gradient_scale},
            )
    return origins


def spread(
    places: Sequence[ChannelSlice],
    width: int,
    values: Tensor,
    size: int,
    rest: float = 1,
) -> Tensor:
    """Per-channel values laid out along a dimension of a tensor.

    Args:
        places: where the channels are along the old dimension, by offset.
        width: the old number of channels.
        values: ``(new width,)``.
        size: the old size of the dimension.
        rest: the value at all other indices.
    """
    others = torch.full((size,), rest, dtype=values.dtype)
    return _joined(
        places, width, others, lambda place: values.repeat_interleave(place.repeat)
    )


def _new_indices(
    places: Sequence[ChannelSlice], width: int, sources: Tensor, size: int
) -> Tensor:
    def at(place: ChannelSlice) -> Tensor:
        within = torch.arange(place.repeat)
        indices = place.offset + sources[:, None] * place.repeat + within
        return indices.masked_fill(sources[:, None] < 0, -1).flatten()

    return _joined(places, width, torch.arange(size), at)


def _joined(
    places: Sequence[ChannelSlice],
    width: int,
    others: Tensor,
    values: Callable[[ChannelSlice], Tensor],
) -> Tensor:
    parts, end = [], 0
    for place in places:
        parts += [others[end : place.offset], values(place)]
        end = place.offset + width * place.repeat
    return torch.cat([*parts, others[end:]])


def rebuild(
    model: nn.Module,
    group: ChannelGroup,
    width: int,
    origins: Mapping[str, Origin],
    seed: int = 0,
) -> nn.Module:
    """A copy of a network with another number of channels; no memory is shared.

    Args:
        model: the old network.
        group: the channels to change.
        width: the new number of channels.
        origins: of :func:`group_origins`.
        seed: for the entries without a source, which are initialized like a fresh layer
            of the new size.
    """
    rebuilt = copy.deepcopy(model)
    for (name, dimension), places in group.by_dimension().items():
        change = (width - group.width) * sum(place.repeat for place in places)
        _resize(rebuilt.get_submodule(name), places[0].role, dimension, change)
    with isolated_randomness():
        torch.manual_seed(seed)
        for name in dict.fromkeys(place.layer for place in group.places):
            _refill(rebuilt.get_submodule(name), name, origins)
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
def _refill(layer: nn.Module, name: str, origins: Mapping[str, Origin]) -> None:
    """Replace the entries by the new ones, then initialize those without a source."""
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
