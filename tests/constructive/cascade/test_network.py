"""Networks compute the same outputs as in training, after every round."""

from dataclasses import replace

import pytest
import torch
from cascade_cases import parity

from gradnet.constructive.cascade.settings import CascadeSettings
from gradnet.constructive.cascade.trainer import cascade_correlation

SETTINGS = CascadeSettings(pool=3, activations=["sigmoid", "gaussian"], max_units=4)


@pytest.fixture
def inputs_and_targets():
    return parity(3)


def squares(network, inputs, targets, units):
    return (network(inputs, units) - targets).square().sum((1, 2))


def test_activations_of_training_are_recomputed(inputs_and_targets):
    settings = replace(SETTINGS, weight_multiplier=0.0, threshold=0.0)
    inputs, targets = inputs_and_targets
    result = cascade_correlation(inputs, targets, settings, seeds=range(5))
    for units in range(4):
        # The next round begins with a weight of zero for its unit: nothing changes.
        before = squares(result.network, inputs, targets, units)
        torch.testing.assert_close(
            result.errors[units + 1][:, 0], before, rtol=1e-12, atol=1e-12
        )


def test_the_published_first_weight_changes_the_function(inputs_and_targets):
    inputs, targets = inputs_and_targets
    settings = replace(SETTINGS, threshold=0.0)
    result = cascade_correlation(inputs, targets, settings, seeds=range(5))
    before = squares(result.network, inputs, targets, 0)
    assert ((result.errors[1][:, 0] - before).abs() > 1e-6).all()


def test_hidden_units_are_frozen(inputs_and_targets):
    inputs, targets = inputs_and_targets
    settings = replace(SETTINGS, threshold=0.0)
    few, many = (
        cascade_correlation(
            inputs, targets, replace(settings, max_units=most), seeds=range(3)
        ).network
        for most in (2, 4)
    )
    for early, late in zip(few.units, many.units, strict=False):
        assert torch.equal(early.weights[0], late.weights[0])
        assert torch.equal(early.member, late.member)
    assert torch.equal(few(inputs), many(inputs, units=2))


def test_each_trial_has_as_many_units_as_it_grew():
    inputs, targets = parity(5)
    settings = CascadeSettings(pool=1, max_units=5)
    result = cascade_correlation(inputs, targets, settings, seeds=range(8))
    network = result.network
    assert network.hidden.unique().numel() > 1
    outputs = network(inputs)
    for trial, hidden in enumerate(network.hidden.tolist()):
        assert torch.equal(outputs[trial], network(inputs, units=hidden)[trial])
        absent = network.output_weights()[trial, :, 6 + hidden :]
        assert (absent == 0).all()
    right = ((outputs - targets).abs() < settings.threshold).all(1).all(1)
    assert torch.equal(right, result.solved) and right.any()


def test_a_network_of_an_earlier_round_can_be_restored(inputs_and_targets):
    inputs, targets = inputs_and_targets
    settings = replace(SETTINGS, threshold=0.0)
    network = cascade_correlation(inputs, targets, settings, seeds=range(2)).network
    expected = network(inputs, units=1)
    assert network.depth().tolist() == [4, 4]
    network.hidden[:] = 1
    assert torch.equal(network(inputs), expected)
    assert network.depth().tolist() == [1, 1]
