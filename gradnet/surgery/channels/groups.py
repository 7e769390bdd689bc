"""Channel groups: all parameters that change with the number of a layer's units."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby

from torch import Tensor, fx, nn

from gradnet.errors import InvalidInputError
from gradnet.surgery.channels.calls import Call, FixedChannels
from gradnet.surgery.channels.functions import function_channels
from gradnet.surgery.channels.graphs import trace, unsupported_layers
from gradnet.surgery.channels.layers import layer_channels
from gradnet.surgery.channels.streams import (
    ChannelSlice,
    Layout,
    Obstacle,
    Role,
    Streams,
)
from gradnet.surgery.edit import layer_of

LAYERS_WITH_UNITS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class ChannelGroup:
    """All parameters that belong to the output units of a layer.

    Attributes:
        layer: the name of the layer.
        width: its number of units.
        slices: where the units are in the tensors of this and other layers.
    """

    layer: str
    width: int
    slices: tuple[ChannelSlice, ...]

    def layers(self, role: Role) -> tuple[str, ...]:
        """The names of the layers with a role, in the network's order."""
        return tuple(dict.fromkeys(p.layer for p in self.slices if p.role == role))

    def by_dimension(self) -> dict[tuple[str, int], list[ChannelSlice]]:
        """(layer, dimension) -> its slices, ordered by offset."""
        slices = sorted(self.slices, key=lambda p: (p.layer, p.dimension, p.offset))
        grouped = groupby(slices, key=lambda p: (p.layer, p.dimension))
        return {key: list(members) for key, members in grouped}


def channel_group(
    model: nn.Module, layer: str, probe: Tensor, exact: bool = True
) -> ChannelGroup:
    """Find all parameters that belong to the output units of a layer.

    Args:
        model: any network that ``torch.fx`` can trace; not modified.
        layer: the name of a linear or convolutional layer.
        probe: inputs ``(N, ...)``, for the shapes.
        exact: raise for layers such as LayerNorm, whose results would change if units
            were copied.

    Returns:
        The group of the layer's units.

    Raises:
        InvalidInputError: there is no such layer, the network cannot be traced, or
            something in it fixes the number of units.
    """
    layer_module = layer_of(model, layer, LAYERS_WITH_UNITS)
    graph = trace(model, probe)
    unsupported = unsupported_layers(graph, model)
    if layer in unsupported:
        raise InvalidInputError(
            f"layer {layer!r} cannot be changed: {unsupported[layer]}"
        )
    found = read_streams(graph, unsupported).of(layer)
    if len(found) != 1:
        raise InvalidInputError(
            f"layer {layer!r} is not called directly in the forward pass of "
            f"{type(model).__name__}, or processes the units of several layers; choose "
            "a layer that the forward pass calls as self.layer(x)"
        )
    slices, obstacles = found[0]
    for obstacle in obstacles:
        if exact or not obstacle.copies_only:
            raise InvalidInputError(
                f"the units of layer {layer!r} cannot change in number: "
                f"{obstacle.reason}"
            )
    weight = layer_module.get_parameter("weight")
    return ChannelGroup(layer, weight.shape[0], tuple(dict.fromkeys(slices)))


def read_streams(graph: fx.GraphModule, unsupported: Mapping[str, str]) -> Streams:
    """Follow the channels through a graph, and join tensors that share them.

    Args:
        graph: of :func:`~gradnet.surgery.channels.graphs.trace`.
        unsupported: layer name -> why its channels cannot change.

    Returns:
        The streams of all layers.
    """
    streams = Streams()
    layouts: dict[fx.Node, Layout | None] = {}
    for node in graph.graph.nodes:
        call = Call(node, layouts, streams)
        try:
            layouts[node] = _channels(call, graph, unsupported)
        except FixedChannels as error:
            layouts[node] = None
            for layout in call.tracked:
                streams.obstruct(layout, Obstacle(str(error)))
    return streams


def _channels(
    call: Call, graph: fx.GraphModule, unsupported: Mapping[str, str]
) -> Layout | None:
    """The layout of a node's result; None if its channels are not those of a layer."""
    if call.node.op == "output":
        raise FixedChannels(
            "they are the network's output, whose units are the classes; choose a "
            "hidden layer"
        )
    if call.node.op == "call_module":
        if call.name in unsupported:
            raise FixedChannels(f"they enter {call}: {unsupported[call.name]}")
        return layer_channels(call, graph.get_submodule(call.name))
    if not call.tracked or "tensor_meta" not in call.node.meta:
        return None  # not the channels of a layer, or not a tensor
    return function_channels(call)
