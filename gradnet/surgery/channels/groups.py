"""Which tensors of a plain network share one list of channels, read from its graph."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby

from torch import Tensor, fx, nn

from gradnet.errors import InvalidInputError
from gradnet.surgery.channels.calls import Call, Obstructed
from gradnet.surgery.channels.functions import function_channels
from gradnet.surgery.channels.graphs import traced, unusable_layers
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
    """All that changes together with the output units of a layer.

    Attributes:
        layer: the name that was asked for.
        width: the number of units now.
        places: where the units lie in the tensors of which layers.
    """

    layer: str
    width: int
    places: tuple[ChannelSlice, ...]

    def layers(self, role: Role) -> tuple[str, ...]:
        """The names of the layers of a role, in the network's order."""
        return tuple(dict.fromkeys(p.layer for p in self.places if p.role == role))

    def by_dimension(self) -> dict[tuple[str, int], list[ChannelSlice]]:
        """(layer, dimension) -> the places there, by offset."""
        places = sorted(self.places, key=lambda p: (p.layer, p.dimension, p.offset))
        grouped = groupby(places, key=lambda p: (p.layer, p.dimension))
        return {key: list(members) for key, members in grouped}


def channel_group(
    model: nn.Module, layer: str, probe: Tensor, exact: bool = True
) -> ChannelGroup:
    """Find what shares the output units of a layer.

    Args:
        model: any network that ``torch.fx`` can trace; not modified.
        layer: the name of a linear or convolutional layer.
        probe: inputs ``(N, ...)``, for the shapes.
        exact: raise for layers between, such as LayerNorm, whose results would differ
            if units were copied.

    Raises:
        InvalidInputError: no such layer, the network cannot be traced, or something in
            it fixes the number of units.
    """
    wanted = layer_of(model, layer, LAYERS_WITH_UNITS)
    graph = traced(model, probe)
    unusable = unusable_layers(graph, model)
    if layer in unusable:
        raise InvalidInputError(f"layer {layer!r} cannot be changed: {unusable[layer]}")
    found = read_streams(graph, unusable).of(layer)
    if len(found) != 1:
        raise InvalidInputError(
            f"layer {layer!r} is not called on its own in the forward pass of "
            f"{type(model).__name__}, or carries the units of several layers; name a "
            "layer that the forward pass calls, as self.layer(x), to make units"
        )
    places, obstacles = found[0]
    for obstacle in obstacles:
        if exact or not obstacle.copies_only:
            raise InvalidInputError(
                f"the units of layer {layer!r} cannot change in number: "
                f"{obstacle.reason}"
            )
    weight = wanted.get_parameter("weight")
    return ChannelGroup(layer, weight.shape[0], tuple(dict.fromkeys(places)))


def read_streams(graph: fx.GraphModule, unusable: Mapping[str, str]) -> Streams:
    """Walk through a graph and join what has the same channels.

    Args:
        graph: its nodes with shapes.
        unusable: layer -> why its channels cannot change.
    """
    streams = Streams()
    layouts: dict[fx.Node, Layout | None] = {}
    for node in graph.graph.nodes:
        call = Call(node, layouts, streams)
        try:
            layouts[node] = _channels(call, graph, unusable)
        except Obstructed as obstructed:
            layouts[node] = None
            for layout in call.meets:
                streams.obstruct(layout, Obstacle(str(obstructed)))
    return streams


def _channels(
    call: Call, graph: fx.GraphModule, unusable: Mapping[str, str]
) -> Layout | None:
    """The channels of a node's result; None where they are of no layer."""
    if call.node.op == "output":
        raise Obstructed(
            "they are the network's output, and units of the last layer are classes; "
            "name a layer before it"
        )
    if call.node.op == "call_module":
        if call.name in unusable:
            raise Obstructed(f"they meet {call}: {unusable[call.name]}")
        return layer_channels(call, graph.get_submodule(call.name))
    if not call.meets or "tensor_meta" not in call.node.meta:
        return None  # nothing of a layer, or a size and no tensor
    return function_channels(call)
