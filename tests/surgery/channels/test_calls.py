"""A call has the name, the arguments and the input layouts of its node."""

import pytest
import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from gradnet.surgery.channels.calls import Call, FixedChannels, normalize_dimensions
from gradnet.surgery.channels.streams import Layout, Segment, Streams


class Calls(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer_ = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer_(x).relu_()
        return torch.cat([x, torch.sum(x, dim=1, keepdim=True)], 1)


@pytest.fixture
def calls() -> dict[str, Call]:
    graph = fx.symbolic_trace(Calls())
    ShapeProp(graph).propagate(torch.randn(2, 3))
    streams = Streams()
    layout = streams.start(1, 3)
    layouts = {
        node: None if node.op == "placeholder" else layout for node in graph.graph.nodes
    }
    return {node.name: Call(node, layouts, streams) for node in graph.graph.nodes}


def test_names_and_arguments(calls):
    assert calls["layer_"].name == "layer_"
    assert str(calls["layer_"]) == "layer 'layer_' (ReLU)"
    assert calls["relu_"].name == "relu"
    assert str(calls["sum_1"]) == "node 'sum_1' (sum)"
    assert calls["sum_1"].argument(1, "dim") == 1
    assert calls["cat"].argument(1, "dim") == 1
    assert calls["cat"].argument(2, "out", "none") == "none"


def test_layouts_of_the_inputs(calls):
    assert calls["layer_"].tracked == []
    assert calls["relu_"].tracked == [Layout(1, (Segment(0, 3),))]
    assert calls["relu_"].layout == calls["relu_"].tracked[0]
    assert [len(calls[name].tracked) for name in ("sum_1", "cat")] == [1, 2]
    assert calls["cat"].shape == (2, 4)
    for name in ("layer_", "cat"):  # an input without channels of a layer; two inputs
        with pytest.raises(FixedChannels, match="effect on channels is unknown"):
            _ = calls[name].layout


def test_dimensions_are_counted_from_the_front():
    assert normalize_dimensions(-1, 4) == [3]
    assert normalize_dimensions((1, -2), 4) == [1, 2]
