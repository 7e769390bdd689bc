"""A cascade becomes a module with the same outputs, and pruning makes it smaller."""

import copy
from dataclasses import replace

import pytest
import torch
from cascade_cases import two_spirals

from gradnet.constructive.cascade.candidates import PlainUnits
from gradnet.constructive.cascade.knowledge import KnowledgeUnits
from gradnet.constructive.cascade.pruning import prune, to_module
from gradnet.constructive.cascade.recurrent import RecurrentUnits
from gradnet.constructive.cascade.settings import CascadeSettings
from gradnet.constructive.cascade.trainer import cascade_correlation
from gradnet.errors import InvalidInputError

GROWN = CascadeSettings(max_units=4, pool=6).for_two_spirals()


def grown(settings=GROWN, seeds=(0, 1)):
    points, targets = two_spirals()
    return points, targets, cascade_correlation(points, targets, settings, seeds=seeds)


def count(module):
    """Of weights; biases are not deleted."""
    layers = [*module.units, module.head]
    return sum(int((layer.weight != 0).sum()) for layer in layers)


@pytest.mark.parametrize(
    "settings",
    [
        GROWN,
        replace(GROWN, activations=["sigmoid", "gaussian", "sine"]),
        replace(GROWN, connections="siblings"),
        replace(GROWN, connections="flat"),
        replace(GROWN, fan_in=2),
        replace(GROWN, output="linear"),
        replace(GROWN, max_units=0),
    ],
)
def test_a_module_has_the_outputs_of_its_trial_at_every_size(settings):
    points, _, result = grown(settings)
    for units in range(settings.max_units + 1):
        result.network.hidden[:] = torch.tensor([units, settings.max_units])
        for trial in (0, 1):
            module = to_module(result.network, trial)
            expected = result.network(points)[trial]
            torch.testing.assert_close(module(points), expected, rtol=0, atol=1e-12)
            assert len(module.units) == result.network.hidden[trial]


def test_a_module_shares_no_memory_with_the_network_and_draws_nothing():
    points, _, result = grown()
    before = result.network(points)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    module = to_module(result.network)
    assert torch.equal(torch.rand(3), expected)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    assert torch.equal(result.network(points), before)


def test_knowledge_units_cannot_become_a_module():
    points, targets = two_spirals()
    source = torch.nn.Linear(2, 1).double()
    groups = [KnowledgeUnits(source, 2, 1, 2)]
    settings = replace(GROWN, max_units=1)
    result = cascade_correlation(points, targets, settings, groups=groups)
    for units in (0, 1):
        result.network.hidden[:] = units
        with pytest.raises(
            InvalidInputError, match="the network has KnowledgeUnits; only"
        ):
            to_module(result.network)


def test_recurrent_units_cannot_become_a_module():
    result = grown(replace(GROWN, max_units=0))[2]
    result.network.groups = [RecurrentUnits(2, [97, 97])]
    with pytest.raises(InvalidInputError, match="the network has RecurrentUnits; only"):
        to_module(result.network)


def test_missing_targets_are_refused_and_divergence_stops_pruning():
    points, targets, result = grown()
    module = to_module(result.network)
    missing = targets.clone()
    missing[3] = torch.nan
    with pytest.raises(InvalidInputError, match="targets are NaN"):
        prune(module, points, missing, 0.2, lambda tried: True)
    infinite = targets.clone()
    infinite[3] = torch.inf
    assert prune(module, points, infinite, 0.2, lambda tried: True) is module


def test_pruning_continues_while_accepted_and_does_not_modify_the_network():
    points, targets, result = grown()
    module = to_module(result.network)
    before = [value.clone() for value in module.parameters()]
    rounds = []

    def is_acceptable(tried):
        rounds.append(tried)
        return len(rounds) <= 3

    found = prune(module, points, targets, 0.2, is_acceptable, patience=2)
    assert found is rounds[2] and len(rounds) == 5
    assert all(map(torch.equal, module.parameters(), before))
    weights = sum(2 + before for before in range(5))  # of units, then of the output
    left = []
    for _ in range(3):
        weights -= max(int(0.2 * weights), 1)
        left.append(weights)
    assert [count(tried) for tried in rounds[:3]] == left
    # What is deleted stays so: no later round has a weight that an earlier had not.
    for earlier, later in zip(rounds, rounds[1:], strict=False):
        pairs = zip(earlier.parameters(), later.parameters(), strict=True)
        assert all(((old != 0) | (new == 0)).all() for old, new in pairs)


def test_remaining_weights_are_retrained():
    points, targets, result = grown()
    module = to_module(result.network)
    found = []
    prune(module, points, targets, 0.1, lambda m: bool(found.append(m)), patience=1)
    untrained = copy.deepcopy(module)
    with torch.no_grad():
        for name, old in untrained.named_parameters():
            new = found[0].get_parameter(name)
            assert not torch.equal(old, new)
            old[new == 0] = 0

        def error(network):
            return (network(points) - targets).square().sum()

        assert error(found[0]) < 0.9 * error(untrained)


def test_pruning_ends_when_no_weight_remains():
    points, targets, result = grown()
    module = to_module(result.network)
    found = prune(module, points, targets, 0.9, lambda tried: True)
    assert count(found) == 0


def test_connections_that_never_existed_are_not_counted():
    points, targets, result = grown(replace(GROWN, fan_in=1))
    module = to_module(result.network)
    found = []
    prune(module, points, targets, 0.2, lambda m: bool(found.append(m)), patience=1)
    before = count(module)
    assert count(found[0]) == before - int(0.2 * before)


def test_without_an_accepted_round_the_network_is_returned_unchanged():
    points, targets, result = grown()
    module = to_module(result.network)
    assert prune(module, points, targets, 0.5, lambda tried: False) is module


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1])
def test_a_fraction_out_of_range_is_refused(fraction):
    points, targets, result = grown(replace(GROWN, max_units=0))
    with pytest.raises(InvalidInputError, match="fraction to prune is"):
        prune(to_module(result.network), points, targets, fraction, lambda m: True)
    assert isinstance(result.network.groups[0], PlainUnits)
