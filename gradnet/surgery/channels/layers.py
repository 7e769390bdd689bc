"""Rules for the channels of layers: which they produce, consume or mix."""

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from gradnet.surgery.channels.calls import Call, FixedChannels
from gradnet.surgery.channels.functions import flatten, softmax, spatial
from gradnet.surgery.channels.streams import Layout, Obstacle

OVER_ONE_DIMENSION = (nn.Softmax, nn.LogSoftmax, nn.Softmin)
NOT_ELEMENTWISE = (nn.GLU, nn.MultiheadAttention)


def layer_channels(call: Call, layer: nn.Module) -> Layout | None:
    """The layout of a layer's result; None if its channels are not those of a layer.

    Args:
        call: the call of the layer.
        layer: the layer.

    Raises:
        FixedChannels: no rule covers the layer, or it fixes the channels.
    """
    if isinstance(layer, nn.Linear):
        return _linear(call, layer)
    if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return _convolution(call, layer)
    if not call.tracked:
        return None
    if not call.shape:
        raise call.unsupported()
    if isinstance(layer, _NormBase):
        return _per_channel(call)
    if isinstance(layer, nn.PReLU):
        return call.layout if layer.num_parameters == 1 else _per_channel(call)
    if isinstance(layer, nn.LayerNorm | nn.RMSNorm | nn.GroupNorm):
        return _normalization(call, layer)
    if isinstance(layer, nn.LocalResponseNorm):
        return call.mixed()
    if isinstance(layer, OVER_ONE_DIMENSION):
        return softmax(call, layer.dim)
    if isinstance(layer, nn.Softmax2d):
        return softmax(call, -3)
    if isinstance(layer, nn.Flatten):
        return flatten(call, layer.start_dim, layer.end_dim)
    return _without_parameters(call, layer)


def _without_parameters(call: Call, layer: nn.Module) -> Layout:
    module = type(layer).__module__.removeprefix("torch.nn.modules.")
    if module in ("pooling", "padding", "upsampling"):
        return spatial(call, type(layer).__name__)
    known = module in ("activation", "dropout") or isinstance(layer, nn.Identity)
    if not known or isinstance(layer, NOT_ELEMENTWISE):
        raise call.unsupported()
    return call.layout


def _linear(call: Call, layer: nn.Linear) -> Layout:
    last = len(call.shape) - 1
    for layout in call.tracked:
        if layout.axis == last:
            call.streams.record(layout, call.name, "consumer", 1)
        else:
            reason = f"{call} does not take them as input features; flatten them first"
            call.streams.obstruct(layout, Obstacle(reason))
    return _produced(call, last, layer.out_features)


def _convolution(call: Call, layer: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> Layout | None:
    batched = len(call.shape) == layer.weight.ndim
    if not batched or any(layout.axis != 1 for layout in call.tracked):
        raise FixedChannels(
            f"{call} does not take them as channels, (N, channels, ...)"
        )
    if layer.groups == 1:
        for layout in call.tracked:
            call.streams.record(layout, call.name, "consumer", 1)
        return _produced(call, 1, layer.out_channels)
    if layer.groups == layer.in_channels == layer.out_channels:
        return _per_channel(call) if call.tracked else None
    reason = (
        f"{call} is a convolution with {layer.groups} groups; only one group, or as "
        "many as input and output channels, is supported"
    )
    produced = _produced(call, 1, layer.out_channels)
    for layout in (*call.tracked, produced):
        call.streams.obstruct(layout, Obstacle(reason))
    return produced


def _produced(call: Call, axis: int, channels: int) -> Layout:
    layout = call.streams.start(axis, channels)
    call.streams.record(layout, call.name, "producer", 0)
    return layout


def _per_channel(call: Call) -> Layout:
    if call.layout.axis != 1:
        raise FixedChannels(f"{call} does not have one entry for each of them")
    call.streams.record(call.layout, call.name, "carrier", 0)
    return call.layout


def _normalization(
    call: Call, layer: nn.LayerNorm | nn.RMSNorm | nn.GroupNorm
) -> Layout:
    layout, dimension = call.layout, 0
    if isinstance(layer, nn.GroupNorm):
        if layout.axis != 1:
            raise call.unsupported()
    else:
        first = len(call.shape) - len(layer.normalized_shape)
        if layout.axis < first:
            return layout
        dimension = layout.axis - first
    call.streams.record(layout, call.name, "carrier", dimension)
    return call.mixed()
