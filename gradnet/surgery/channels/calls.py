"""One call in a traced graph: its name, its arguments, the channels of its inputs."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import fx
from torch.fx.passes.shape_prop import TensorMetadata

from gradnet.surgery.channels.streams import Layout, Obstacle, Streams


class FixedChannels(Exception):
    """The channels of a call's inputs cannot change in number; internal."""


class Call:
    """A node of a graph, and the layouts of its input tensors.

    Args:
        node: of a graph with shapes.
        layouts: node -> the layout of its tensor; None if its channels are not those of
            a layer.
        streams: all streams so far.

    Attributes:
        shape: of the result.
        tensors: the nodes of the input tensors.
        tracked: the layouts of those input tensors that have channels of a layer.
    """

    def __init__(
        self,
        node: fx.Node,
        layouts: Mapping[fx.Node, Layout | None],
        streams: Streams,
    ) -> None:
        self.node = node
        self.streams = streams
        self.layouts = layouts
        self.shape = shape_of(node)
        self.tensors = [n for n in node.all_input_nodes if "tensor_meta" in n.meta]
        self.tracked = [layout for n in self.tensors if (layout := layouts[n])]

    @property
    def name(self) -> str:
        """The name of the layer, function or method, without an in-place underscore."""
        target = self.node.target
        if isinstance(target, str):
            is_method = self.node.op == "call_method"
            return target.rstrip("_") if is_method else target
        return getattr(target, "__name__", str(target)).rstrip("_")

    @property
    def tensor(self) -> fx.Node:
        """The node of the only input tensor."""
        if len(self.tensors) != 1:
            raise self.unsupported()
        return self.tensors[0]

    @property
    def layout(self) -> Layout:
        """The layout of the only input tensor."""
        layout = self.layouts[self.tensor]
        if layout is None:
            raise self.unsupported()
        return layout

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """An argument by position or name; the tensor or ``self`` has position 0."""
        if len(self.node.args) > position:
            return self.node.args[position]
        return self.node.kwargs.get(name, default)

    def unsupported(self) -> FixedChannels:
        """The exception for a call that no rule covers."""
        return FixedChannels(
            f"they enter {self}, whose effect on channels is unknown; choose a layer "
            "whose channels do not enter it"
        )

    def mixed(self) -> Layout:
        """The layout of a result that would change if channels were copied."""
        reason = (
            f"{self} mixes them, so that copies of units would change its result; "
            "give exact=False to allow that"
        )
        self.streams.obstruct(self.layout, Obstacle(reason, copies_only=True))
        return self.layout

    def __str__(self) -> str:
        if self.node.op == "call_module":
            owner = self.node.graph.owning_module
            kind = type(owner.get_submodule(self.name)).__name__ if owner else "layer"
            return f"layer {self.name!r} ({kind})"
        return f"node {self.node.name!r} ({self.name})"


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """The shape of a node's tensor; empty if it is a scalar or not one tensor."""
    data = node.meta.get("tensor_meta")
    return tuple(data.shape) if isinstance(data, TensorMetadata) else ()


def normalize_dimensions(dimensions: int | Iterable[int], rank: int) -> list[int]:
    """Nonnegative dimensions: negative ones count from the end, as in torch."""
    given = [dimensions] if isinstance(dimensions, int) else dimensions
    return [dimension % rank for dimension in given]
