"""One call in a traced graph: its name, its arguments, the channels that it meets."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import fx
from torch.fx.passes.shape_prop import TensorMetadata

from gradnet.surgery.channels.streams import Layout, Obstacle, Streams


class Obstructed(Exception):
    """The channels that a call meets cannot change in number; for the reader only."""


class Call:
    """A node of a graph, and the layouts of the tensors that it is given.

    Args:
        node: with shapes.
        layouts: node -> the channels of its tensor; None where they are of no layer.
        streams: all that were found so far.

    Attributes:
        shape: of the result.
        tensors: the nodes of its tensors.
        meets: their layouts, where they have channels of a layer.
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
        self.meets = [layout for n in self.tensors if (layout := layouts[n])]

    @property
    def name(self) -> str:
        """A layer's name; a function's or a method's, the same in place."""
        target = self.node.target
        if isinstance(target, str):
            is_method = self.node.op == "call_method"
            return target.rstrip("_") if is_method else target
        return getattr(target, "__name__", str(target)).rstrip("_")

    @property
    def tensor(self) -> fx.Node:
        """The node of the only tensor."""
        if len(self.tensors) != 1:
            raise self.unknown()
        return self.tensors[0]

    @property
    def layout(self) -> Layout:
        """The channels of the only tensor."""
        layout = self.layouts[self.tensor]
        if layout is None:
            raise self.unknown()
        return layout

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """An argument by its position, that of the tensor or ``self`` included."""
        if len(self.node.args) > position:
            return self.node.args[position]
        return self.node.kwargs.get(name, default)

    def unknown(self) -> Obstructed:
        """What to raise where no rule tells what happens to the channels."""
        return Obstructed(
            f"they meet {self}, of which surgery does not know what it does to "
            "channels; name a layer that it does not touch"
        )

    def mixed(self) -> Layout:
        """The layout of a result that would differ if channels were copied."""
        reason = (
            f"{self} mixes them, so copies of units would change its result; "
            "exact=False allows that"
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
    """The shape of a node's tensor; empty where it is a scalar or not one tensor."""
    data = node.meta.get("tensor_meta")
    return tuple(data.shape) if isinstance(data, TensorMetadata) else ()


def normalized(dimensions: int | Iterable[int], rank: int) -> list[int]:
    """Dimensions counted from the front."""
    given = [dimensions] if isinstance(dimensions, int) else dimensions
    return [dimension % rank for dimension in given]
