"""Trained networks as candidates: they are frozen, and gradients pass through them."""

import pytest
import torch
from cascade_cases import parity, two_spirals
from torch import nn

from gradnet.constructive.cascade.candidates import PlainUnits
from gradnet.constructive.cascade.knowledge import KnowledgeUnits, UnitSource
from gradnet.constructive.cascade.settings import CascadeSettings
from gradnet.constructive.cascade.trainer import cascade_correlation
from gradnet.errors import InvalidInputError

GAUSSIAN = CascadeSettings(activations=["gaussian"])


class Solved(nn.Module):
    """A grown network as a module."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, inputs):
        features = torch.cat([torch.ones_like(inputs[:, :1]), inputs], 1).T[None]
        for unit in self.network.units:
            values = unit.values(self.network.groups, features)
            features = torch.cat([features, values], 1)
        net = self.network.output_weights() @ features
        return net[0].T.sigmoid() - 0.5


@pytest.mark.parametrize("name", ["sigmoid", "gaussian"])
def test_an_activation_as_a_source_equals_a_plain_unit_bit_for_bit(name):
    inputs, targets = two_spirals()
    settings = CascadeSettings(activations=[name], max_units=4).for_two_spirals()
    plain = cascade_correlation(inputs, targets, settings, seeds=range(3))
    groups = [KnowledgeUnits(UnitSource(name), 1, settings.pool)]
    recruited = cascade_correlation(
        inputs, targets, settings, seeds=range(3), groups=groups
    )
    pairs = zip(plain.network.rounds, recruited.network.rounds, strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert torch.equal(plain.epochs, recruited.epochs)
    assert torch.equal(plain.crossings, recruited.crossings)


@pytest.mark.parametrize("several", [False, True], ids=["one output", "several"])
def test_gradients_go_through_the_source(several):
    source = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1 + 2 * several))
    source.double()
    units = KnowledgeUnits(source, 2, 3)
    weights = torch.randn(2, 3, 8, dtype=torch.float64).requires_grad_()
    features = torch.randn(2, 4, 7, dtype=torch.float64)
    members = torch.arange(3).expand(2, -1)
    values, pullback = units.forward(weights.detach(), features, members)
    rows = []
    for trial in range(2):
        for index in range(3):
            matrix = weights[trial, index].view(2, 4)
            rows.append(source((matrix @ features[trial]).T).T)
    expected = torch.stack(rows).view_as(values)
    torch.testing.assert_close(values, expected)
    cotangents = torch.randn_like(values)
    (gradient,) = torch.autograd.grad(expected, weights, cotangents)
    torch.testing.assert_close(pullback(cotangents), gradient)


def test_a_source_of_the_same_task_is_recruited_once_and_not_modified():
    inputs, targets = parity(4)
    solved = cascade_correlation(inputs, targets, GAUSSIAN)
    source = Solved(solved.network)
    torch.testing.assert_close(source(inputs), solved.network(inputs)[0])
    groups = [PlainUnits(4, ["gaussian"]), KnowledgeUnits(source, 4, 4, direct=True)]
    result = cascade_correlation(
        inputs, targets, GAUSSIAN, seeds=range(5), groups=groups
    )
    assert result.solved.all() and (result.hidden_units == 1).all()
    assert (result.network.units[0].group == 1).all()
    off = result.network(inputs) - targets
    assert off.abs().max() < 0.4


def test_sources_of_several_outputs_compete_with_plain_units():
    inputs, targets = parity(5)
    source = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    before = {name: value.clone() for name, value in source.state_dict().items()}
    groups = [PlainUnits(4, ["gaussian"]), KnowledgeUnits(source, 5, 4)]
    settings = CascadeSettings(threshold=0.0, max_units=4, weight_multiplier=0.0)
    result = cascade_correlation(
        inputs, targets, settings, seeds=range(6), groups=groups
    )
    assert {g for unit in result.network.units for g in unit.group.tolist()} == {0, 1}
    features = result.network.features(inputs)
    assert features.shape == (6, 6 + 4 * 3, 32)
    for number, unit in enumerate(result.network.units):
        plain = unit.group == 0
        padding = features[plain, 6 + 3 * number + 1 : 6 + 3 * number + 3]
        assert (padding == 0).all()
    after = result.errors[-1]
    assert (after[:, 0] < result.errors[0][:, 0]).all()
    for name, value in source.state_dict().items():
        assert torch.equal(value, before[name])


def test_the_direct_candidate_passes_the_inputs_to_the_source():
    units = KnowledgeUnits(nn.Identity(), 3, 2, direct=True)
    generator = torch.Generator().manual_seed(0)
    weights = units.initial_weights(6, 1.0, generator)[None]
    features = torch.randn(1, 6, 4, dtype=torch.float64)
    values, _ = units.forward(weights, features, torch.arange(2)[None])
    assert torch.equal(values[0, 0], features[0, 1:4])
    assert not torch.equal(values[0, 1], features[0, 1:4])


def test_invalid_sources_are_refused():
    with pytest.raises(InvalidInputError, match=r"fails on inputs \(2, 3\)"):
        KnowledgeUnits(nn.Linear(2, 1).double(), 3, 4)
    with pytest.raises(InvalidInputError, match=r"maps \(2, 3\) to \(6,\)"):
        KnowledgeUnits(nn.Flatten(0), 3, 4)
    units = KnowledgeUnits(nn.Identity(), 3, 4, direct=True)
    with pytest.raises(
        InvalidInputError, match="3 inputs, the network only 2; leave out direct=True"
    ):
        cascade_correlation(*parity(2), groups=[units])
