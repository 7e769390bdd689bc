"""Networks that cannot be traced are refused with their class and the reason."""

import pytest
import torch
from torch import Tensor, nn

from gradnet.core.torchvision import import_torchvision
from gradnet.errors import InvalidInputError
from gradnet.surgery.channels.calls import shape_of
from gradnet.surgery.channels.graphs import called_layers, trace, unsupported_layers
from gradnet.surgery.widen import widen


class Branching(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(3, 3), nn.Linear(3, 3)
        self.kind = kind

    def forward(self, x: Tensor) -> object:
        x = self.one(x)
        if self.kind == "values" and x.sum() > 0:
            return self.two(x)
        if self.kind == "loop":
            return torch.stack([row for row in x])
        if self.kind == "training" and self.training:
            return self.two(x)
        return (x, x) if self.kind == "tuple" else x


@pytest.mark.parametrize(
    ("kind", "match"),
    [
        ("values", "Branching cannot be traced by torch.fx: symbolically traced"),
        ("loop", "Branching cannot be traced by torch.fx: Proxy object cannot be it"),
        (
            "training",
            "Branching calls other layers in training mode than in eval.*: two; dis",
        ),
        ("tuple", "Branching returns a tuple"),
    ],
)
def test_networks_that_cannot_be_traced_are_refused(kind, match):
    model = Branching(kind)
    with pytest.raises(InvalidInputError, match=match):
        trace(model, torch.randn(2, 3))
    with pytest.raises(InvalidInputError, match=match):
        widen(model, "one", 5, probe=torch.randn(2, 3))


def test_a_probe_of_another_shape_is_refused():
    with pytest.raises(
        InvalidInputError, match="Linear fails on the probe: mat1 and mat2"
    ):
        trace(nn.Linear(3, 2), torch.randn(2, 4))


def test_auxiliary_heads_are_refused():
    import_torchvision()
    from torchvision import models

    model = models.googlenet(num_classes=3, aux_logits=True, init_weights=False)
    with pytest.raises(
        InvalidInputError, match=r"GoogLeNet calls.*aux1.*aux_logits=False"
    ):
        trace(model.eval(), torch.randn(1, 3, 64, 64))


def test_graph_has_shapes_and_the_model_is_left():
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Dropout())
    state = torch.get_rng_state()
    graph = trace(model, torch.randn(4, 3, generator=torch.Generator()))
    assert torch.equal(torch.get_rng_state(), state)
    assert [shape_of(n) for n in graph.graph.nodes][:2] == [(4, 3), (4, 2)]
    assert dict(called_layers(graph)) == {"0": 1, "1": 1, "2": 1}
    assert model.training and model[1].num_batches_tracked == 0
    assert unsupported_layers(graph, model) == {}


def test_one_module_under_two_names_is_unusable():
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    model.add_module("alias", model[0])
    model.add_module("prelu", nn.PReLU())
    model.add_module("same", model.prelu)
    model.add_module("last", nn.Linear(3, 2))
    graph = trace(model, torch.randn(2, 3))
    unsupported = unsupported_layers(graph, model)
    assert set(unsupported) == {"0", "alias"}
    assert unsupported["0"].startswith("it is called more than once")
