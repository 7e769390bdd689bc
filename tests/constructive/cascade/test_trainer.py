"""Cascade-correlation solves the problems of 1990 with networks of the same size."""

import time
from dataclasses import replace

import pytest
import torch
from cascade_cases import parity, two_spirals

from gradnet.constructive.cascade.settings import CascadeSettings, PhaseSettings
from gradnet.constructive.cascade.trainer import cascade_correlation
from gradnet.errors import InvalidInputError

SPIRALS = CascadeSettings().for_two_spirals()
GAUSSIAN = CascadeSettings(activations=["gaussian"])


def assert_in_the_band(result):
    """Published for two spirals: all solved, 15.2 units, 1700 epochs."""
    numbers = result.summary()
    assert numbers["solved"] >= 0.98 * numbers["trials"]
    assert 13 <= numbers["hidden_mean"] <= 17
    assert 1300 <= numbers["epochs_mean"] <= 2100
    assert 14e6 <= numbers["crossings_mean"] <= 22e6


def test_two_spirals():
    assert_in_the_band(cascade_correlation(*two_spirals(), SPIRALS, seeds=range(20)))


@pytest.mark.slow
def test_a_hundred_trials_of_two_spirals_take_seconds():
    start = time.process_time()
    result = cascade_correlation(*two_spirals(), SPIRALS, seeds=range(100))
    assert time.process_time() - start < 20
    assert_in_the_band(result)
    assert result.hidden_units.min() >= 10 and result.hidden_units.max() <= 22


# Published: units and mean epochs of five trials.
PARITY = {2: (1, 1, 24), 3: (1, 1, 32), 4: (2, 2, 66), 5: (2, 3, 142)} | {
    6: (3, 3, 161),
    7: (4, 5, 292),
    8: (4, 5, 357),
}


@pytest.mark.parametrize("number", PARITY)
def test_parity_with_gaussian_units(number):
    least, most, epochs = PARITY[number]
    result = cascade_correlation(*parity(number), GAUSSIAN, seeds=range(10))
    assert result.solved.all()
    assert least <= result.hidden_units.median() <= most
    assert result.hidden_units.max() <= most + 2
    assert result.epochs.double().mean() < 2 * epochs


def test_trials_are_independent_of_each_other():
    settings = replace(
        SPIRALS,
        max_units=2,
        outputs=replace(SPIRALS.outputs, epochs=15),
        candidates=replace(SPIRALS.candidates, epochs=15),
    )
    seeds = [3, 1, 4, 15, 9, 2, 6]
    inputs, targets = two_spirals()
    together = cascade_correlation(inputs, targets, settings, seeds=seeds)
    for index, seed in enumerate(seeds):
        alone = cascade_correlation(inputs, targets, settings, seeds=[seed])
        assert alone.epochs[0] == together.epochs[index]
        assert alone.crossings[0] == together.crossings[index]
        torch.testing.assert_close(
            alone.network(inputs)[0], together.network(inputs)[index]
        )


def test_trials_that_end_early_do_not_disturb_the_others():
    inputs, targets = parity(5)
    together = cascade_correlation(inputs, targets, GAUSSIAN, seeds=range(12))
    assert together.hidden_units.unique().numel() > 1
    for seed in (0, 5, 11):
        alone = cascade_correlation(inputs, targets, GAUSSIAN, seeds=[seed])
        assert alone.hidden_units[0] == together.hidden_units[seed]
        assert alone.epochs[0] == together.epochs[seed]


def test_the_same_seeds_make_the_same_networks():
    first, again = (
        cascade_correlation(*parity(3), seeds=[1, 2]).network for _ in range(2)
    )
    for one, other in zip(first.rounds, again.rounds, strict=True):
        assert torch.equal(one, other)


def test_the_sigmoid_offset_is_needed():
    settings = replace(SPIRALS, sigmoid_offset=0.0)
    result = cascade_correlation(*two_spirals(), settings, seeds=range(10))
    assert result.solved.sum() < 9  # 11 of 20 in an independent implementation


def test_the_raw_residual_is_an_option():
    settings = replace(SPIRALS, raw_residual=True)
    result = cascade_correlation(*two_spirals(), settings, seeds=range(6))
    # All of 20 in an independent implementation, with 17.5 units.
    assert result.solved.sum() > 4 and 14 < result.summary()["hidden_mean"] < 21


def test_trials_that_fail_are_counted_and_left_out_of_the_means():
    settings = replace(GAUSSIAN, max_units=1)
    result = cascade_correlation(*parity(4), settings, seeds=range(30))
    numbers = result.summary()
    assert numbers["failed"] == (~result.solved).sum() > 0
    assert (result.hidden_units[~result.solved] == 1).all()
    solved = result.epochs[result.solved].double()
    if len(solved):
        assert numbers["epochs_mean"] == solved.mean()
    nothing = cascade_correlation(*two_spirals(), settings).summary()
    assert nothing["solved"] == 0 and nothing["hidden_mean"] != nothing["hidden_mean"]


def test_and_needs_no_units_and_its_cost_is_counted():
    inputs = parity(2)[0]
    targets = (inputs.sum(1, keepdim=True) > 0.9).double() - 0.5
    result = cascade_correlation(inputs, targets)
    assert result.solved.all() and result.hidden_units.item() == 0
    # 4 samples, 3 weights; no candidate was trained.
    assert result.crossings.item() == result.epochs.item() * 12
    assert result.depth.item() == 0


def test_candidates_cost_all_their_connections():
    result = cascade_correlation(*parity(2), GAUSSIAN)
    assert result.hidden_units.item() == 1
    output, candidate = result.output_epochs.item(), result.candidate_epochs.item()
    first = result.errors[0].isfinite().sum().item()
    expected = 4 * (3 * first + 4 * (output - first) + 8 * 3 * candidate)
    assert result.crossings.item() == expected


def test_several_outputs():
    inputs = parity(3)[0]
    targets = torch.cat([parity(3)[1], inputs[:, :1], -parity(3)[1]], 1)
    result = cascade_correlation(inputs, targets, GAUSSIAN, seeds=range(5))
    assert result.solved.all()
    assert result.network(inputs).shape == (5, 8, 3)


def test_missing_targets_do_not_count():
    inputs, targets = parity(3)
    targets[2:5] = torch.nan
    result = cascade_correlation(inputs, targets, GAUSSIAN, seeds=range(5))
    assert result.solved.all()
    mask = ~targets[:, 0].isnan()
    off = (result.network(inputs) - targets)[:, mask]
    assert (off.abs() < 0.4).all()


def depths_and_sizes(multipliers, seeds, **changes):
    settings = replace(SPIRALS, connections="siblings", max_units=40, **changes)
    found = []
    for multiplier in multipliers:
        one = replace(settings, descendant_multiplier=multiplier)
        numbers = cascade_correlation(*two_spirals(), one, seeds=seeds).summary()
        assert numbers["failed"] == 0
        found.append((numbers["depth_mean"], numbers["hidden_mean"]))
    return zip(*found, strict=True)


def test_a_smaller_multiplier_makes_shallower_and_larger_networks():
    depths, sizes = depths_and_sizes([1.0, 0.5], range(8))
    assert depths[0] > 1.5 * depths[1] and sizes[0] < sizes[1]


@pytest.mark.slow
def test_depth_falls_and_size_rises_with_the_multiplier():
    depths, sizes = map(list, depths_and_sizes([1, 0.8, 0.5], range(50), pool=16))
    assert depths == sorted(depths, reverse=True) and sizes == sorted(sizes)


def test_siblings_only_make_one_layer():
    settings = replace(SPIRALS, connections="siblings", max_units=5)
    shallow = replace(settings, descendant_multiplier=1e-9)
    result = cascade_correlation(*two_spirals(), shallow, seeds=range(3))
    assert result.depth.tolist() == [1, 1, 1]
    assert (result.hidden_units == 5).all()


def test_a_flat_network_is_of_one_layer():
    settings = replace(SPIRALS, connections="flat", max_units=4)
    result = cascade_correlation(*two_spirals(), settings, seeds=range(2))
    assert result.depth.tolist() == [1, 1]
    # A unit there has no weights of other units.
    assert all((u.weights[0][:, 3:] == 0).all() for u in result.network.units)
    assert all((u.connections == 3).all() for u in result.network.units)


def test_several_functions_in_one_pool_make_smaller_networks():
    settings = replace(SPIRALS, activations=["sigmoid", "tanh", "gaussian", "sine"])
    result = cascade_correlation(*two_spirals(), settings, seeds=range(6))
    assert result.solved.all() and result.hidden_units.double().mean() < 12


def test_error_minimizing_candidates_fit_a_function():
    inputs = torch.linspace(-2, 2, 40, dtype=torch.float64)[:, None]
    targets = (2 * inputs).sin()
    settings = CascadeSettings(
        output="linear",
        criterion="error",
        threshold=0.1,
        candidates=PhaseSettings(rate=10.0, change=0.03),
        activations=["tanh"],
    )
    result = cascade_correlation(inputs, targets, settings, seeds=range(4))
    assert result.solved.all() and result.hidden_units.max() < 15
    off = (result.network(inputs) - targets).abs()
    assert off.max() < 0.1


def test_error_minimizing_candidates_solve_parity():
    settings = replace(GAUSSIAN, criterion="error")
    result = cascade_correlation(*parity(3), settings, seeds=range(6))
    assert result.solved.all()


def test_limited_fan_in_solves_parity():
    settings = replace(GAUSSIAN, fan_in=2)
    result = cascade_correlation(*parity(3), settings, seeds=range(6))
    assert result.solved.all()
    assert all((unit.connections <= 3).all() for unit in result.network.units)


def test_should_stop_ends_trials():
    seen = []

    def should_stop(network):
        seen.append(network.hidden.clone())
        return network.hidden >= torch.tensor([1, 3, 2])

    inputs, targets = two_spirals()
    result = cascade_correlation(
        inputs, targets, SPIRALS, seeds=range(3), should_stop=should_stop
    )
    assert result.hidden_units.tolist() == [1, 3, 2] and len(seen) == 4
    assert not result.solved.any()


def test_samples_of_other_shapes_are_refused():
    inputs, targets = parity(2)
    with pytest.raises(InvalidInputError, match=r"\(4, 2\) and targets \(3, 1\)"):
        cascade_correlation(inputs, targets[:3])
    with pytest.raises(InvalidInputError, match=r"do not match; give \(N, D\)"):
        cascade_correlation(inputs, targets[:, 0])
    with pytest.raises(InvalidInputError, match="nothing to learn"):
        cascade_correlation(inputs, targets, seeds=[])


@pytest.mark.cuda
def test_a_gpu_computes_the_same():
    inputs, targets = parity(3)
    here = cascade_correlation(inputs, targets, GAUSSIAN, seeds=range(4))
    there = cascade_correlation(inputs.cuda(), targets.cuda(), GAUSSIAN, seeds=range(4))
    assert there.solved.all()
    assert torch.equal(there.hidden_units.cpu(), here.hidden_units)
