"""Dynamic node creation grows by the paper's rule, to the paper's sizes."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from node_cases import scalar_learn, scalar_outputs

from gradnet.constructive.node_creation import (
    NodeCreationSettings,
    has_flattened,
    node_creation,
)
from gradnet.data.toy_problems import classic_problem
from gradnet.errors import InvalidInputError

XOR = classic_problem("xor")
QUICK = NodeCreationSettings(window=20, threshold=0.5, max_units=4, max_sweeps=90)


def is_due(errors, added=0):
    curve = torch.tensor(errors, dtype=torch.float64)[:, None]
    return has_flattened(curve, torch.tensor([added]), window=3, threshold=0.1).item()


@pytest.mark.parametrize(
    ("errors", "added", "due"),
    [
        ([1.0, 1.0, 1.0], 0, False),  # not yet w sweeps
        ([1.0, 1.0, 1.0, 1.0], 0, True),
        ([1.0, 0.9, 0.8, 0.7], 0, False),
        ([1.0, 0.95, 0.95, 0.91], 0, True),
        ([1.0, 1.1, 1.2, 1.3], 0, True),  # it rises
        ([1.0, 1.0, 1.0, 1.0], 1, False),  # the window would cross the addition
        ([9.0, 1.0, 1.0, 1.0, 1.0], 1, True),
        # By a[t0], not by a[t - w]: 0.08 is less than a tenth of 1, more than of 0.5.
        ([1.0, 0.5, 0.45, 0.44, 0.42], 0, True),
        ([0.5, 0.5, 0.45, 0.44, 0.42], 0, False),
        ([0.5, 1.0, 0.5, 0.45, 0.44, 0.42], 1, True),
    ],
)
def test_a_unit_is_due_by_the_papers_rule(errors, added, due):
    assert is_due(errors, added) is due


@given(st.lists(st.floats(0.1, 2), min_size=1, max_size=12), st.data())
def test_no_unit_is_due_within_a_window_of_the_last(errors, data):
    added = data.draw(st.integers(0, len(errors) - 1))
    if len(errors) - 1 - added < 3:
        assert not is_due(errors, added)


def test_no_unit_is_due_after_a_trial_has_ended():
    curves = torch.full((4, 2), 1.0)
    curves[3, 0] = torch.nan
    due = has_flattened(curves, torch.zeros(2, dtype=torch.long), 3, 0.1)
    assert due.tolist() == [False, True]


def scalar_trial(problem, settings, fresh):
    """One trial, number by number.

    Args:
        problem: to solve.
        settings: without a solution, caps or freezing.
        fresh: incoming and outgoing weights of each unit, the bias first.
    """
    weights = [[list(row) for row in part[:2]] for part in fresh]
    steps = [[[0.0] * len(row) for row in part] for part in weights]
    patterns = list(zip(problem.inputs.tolist(), problem.targets.tolist(), strict=True))
    size = len(patterns) if settings.updates == "batch" else 1
    errors, additions, added = [], [], 0
    for sweep in range(settings.max_sweeps + 1):
        squares = [
            (y - t) ** 2
            for x, target in patterns
            for y, t in zip(scalar_outputs(*weights, x)[1], target, strict=True)
        ]
        errors.append(sum(squares) / len(squares))
        start = sweep - settings.window
        if sweep == settings.max_sweeps:
            return errors, additions, weights
        limit = settings.threshold * errors[added]
        if start >= added and errors[start] - errors[sweep] < limit:
            additions.append(sweep)
            added, unit = sweep, len(weights[0])
            for part, moved, new in zip(weights, steps, fresh, strict=True):
                part.append(list(new[unit]))
                moved.append([0.0] * len(new[unit]))
        for first in range(0, len(patterns), size):
            batch = patterns[first : first + size]
            scalar_learn(
                weights, steps, batch, settings.learning_rate, settings.momentum
            )


@pytest.mark.parametrize("updates", ["pattern", "batch"])
@pytest.mark.parametrize("name", ["xor", "addition-1"])
def test_a_trial_equals_a_scalar_reference(name, updates):
    problem = classic_problem(name)
    settings = replace(QUICK, updates=updates, max_units=9)
    result = node_creation(problem.inputs, problem.targets, settings, seeds=[2, 7])
    # Without learning, a network keeps the weights that its units began with.
    drawn = replace(settings, learning_rate=0.0)
    fresh = node_creation(problem.inputs, problem.targets, drawn, seeds=[2, 7]).networks
    assert fresh.scale.shape[1] >= result.hidden_units.max() + 1
    for trial in range(2):
        parts = fresh.incoming[trial].tolist(), fresh.outgoing[trial].tolist()
        errors, additions, weights = scalar_trial(problem, settings, parts)
        assert len(additions) >= 2 and result.additions[trial] == additions
        found = result.errors[trial]
        torch.testing.assert_close(found, found.new_tensor(errors), rtol=0, atol=1e-12)
        units = 1 + len(additions) + 1
        for part, expected in zip(("incoming", "outgoing"), weights, strict=True):
            found = getattr(result.networks, part)[trial, :units]
            torch.testing.assert_close(
                found, found.new_tensor(expected), rtol=0, atol=1e-11
            )


def test_without_learning_a_unit_comes_each_window_and_keeps_its_draws():
    settings = replace(QUICK, learning_rate=0.0, outgoing_range=0.01)
    result = node_creation(XOR.inputs, XOR.targets, settings, seeds=range(3))
    assert result.additions == [[20, 40, 60]] * 3
    assert result.hidden_units.tolist() == [4] * 3
    assert result.sweeps.tolist() == [80] * 3 and not result.solved.any()
    networks = result.networks
    small, old = networks.outgoing[:, 2:], networks.outgoing[:, :2]
    assert 0 < small.abs().max() <= 0.01 < old.abs().max() <= 0.1666
    incoming = networks.incoming[:, 1:]
    assert 0.1 < incoming.abs().max() <= 0.1666 and incoming.unique().numel() == 3 * 12


def test_units_with_zero_outgoing_weights_do_not_change_the_errors():
    settings = replace(QUICK, learning_rate=0.0, outgoing_range=0.0)
    result = node_creation(XOR.inputs, XOR.targets, settings, seeds=[0])
    assert result.hidden_units.item() == 4
    errors = result.errors[0]
    torch.testing.assert_close(errors, errors[:1].expand_as(errors), rtol=0, atol=1e-15)


def test_trials_are_independent_of_each_other():
    # One is solved before the end, and they grow at different sweeps.
    settings = NodeCreationSettings(window=60, max_sweeps=500)
    seeds = [3, 1, 4, 15]
    together = node_creation(XOR.inputs, XOR.targets, settings, seeds=seeds)
    assert together.solved.any() and not together.solved.all()
    assert len({tuple(sweeps) for sweeps in together.additions}) > 1
    outputs = together.networks(XOR.inputs)
    for index, seed in enumerate(seeds):
        alone = node_creation(XOR.inputs, XOR.targets, settings, seeds=[seed])
        assert together.additions[index] == alone.additions[0]
        assert together.solved[index] == alone.solved[0]
        assert together.sweeps[index] == alone.sweeps[0]
        errors = together.errors[index, : alone.errors.shape[1]]
        torch.testing.assert_close(errors, alone.errors[0], rtol=0, atol=1e-12)
        found = alone.networks(XOR.inputs)[0]
        torch.testing.assert_close(outputs[index], found, rtol=0, atol=1e-12)


def test_the_frozen_form_learns_otherwise_from_the_first_addition_on():
    plain, frozen = (
        node_creation(XOR.inputs, XOR.targets, replace(QUICK, frozen=is_frozen))
        for is_frozen in (False, True)
    )
    first = plain.additions[0][0]
    assert frozen.additions[0][0] == first
    same = plain.errors[0, : first + 1] == frozen.errors[0, : first + 1]
    assert same.all()
    assert (plain.errors[0, first + 2 :] != frozen.errors[0, first + 2 :]).all()


@pytest.mark.parametrize(
    ("changes", "units", "sweeps"),
    [({"max_units": 1}, 1, 20), ({"max_sweeps": 25}, 2, 25)],
)
def test_unsolved_trials_report_lower_bounds(changes, units, sweeps):
    settings = replace(QUICK, **changes)
    result = node_creation(XOR.inputs, XOR.targets, settings, seeds=range(3))
    assert result.solved.tolist() == [False] * 3
    assert result.hidden_units.tolist() == [units] * 3
    assert result.sweeps.tolist() == [sweeps] * 3
    assert result.errors.shape == (3, sweeps + 1) and not result.errors.isnan().any()


@pytest.mark.parametrize("most", ["mean_error", "largest_error"])
def test_solved_means_both_errors_are_small(most):
    settings = replace(QUICK, mean_error=1.0, largest_error=1.0)
    start = node_creation(XOR.inputs, XOR.targets, settings)
    assert start.solved.all() and start.sweeps.item() == 0
    assert start.hidden_units.item() == 1
    squares = (start.networks(XOR.inputs)[0] - XOR.targets).square()
    assert start.errors.item() == pytest.approx(squares.mean().item(), abs=1e-15)
    limit = {"mean_error": squares.mean(), "largest_error": squares.max()}[most].item()
    for factor, solved in ((1 + 1e-9, True), (1 - 1e-9, False)):
        changes = {most: limit * factor, "learning_rate": 0.0, "max_sweeps": 1}
        strict = replace(settings, **changes)
        found = node_creation(XOR.inputs, XOR.targets, strict)
        assert found.solved.item() is solved


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("xor", 2),
        ("parity-3", 3),
        ("encoder-8", 3),
        pytest.param("parity-4", 4, marks=SLOW),
        pytest.param("symmetry-4", 2, marks=SLOW),
    ],
)
def test_all_trials_are_solved_by_at_most_three_units_above_the_least(name, least):
    problem = classic_problem(name)
    result = node_creation(problem.inputs, problem.targets, seeds=range(10))
    assert result.solved.all()
    assert (result.hidden_units >= least).all()
    assert (result.hidden_units <= least + 3).all()
    squares = (result.networks(problem.inputs) - problem.targets).square()
    assert squares.max() <= 0.01 and squares.mean((1, 2)).max() <= 0.001
    for trial, last in enumerate(result.sweeps.tolist()):
        assert result.errors[trial, : last + 1].isfinite().all()
        assert result.errors[trial, last + 1 :].isnan().all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window": 0}, "window is 0"),
        ({"max_units": 0}, "max_units is 0"),
        ({"updates": "sweep"}, "give pattern or batch"),
    ],
)
def test_invalid_settings_are_refused(changes, message):
    with pytest.raises(InvalidInputError, match=message):
        NodeCreationSettings(**changes)


def test_patterns_of_other_shapes_are_refused():
    with pytest.raises(InvalidInputError, match="do not match"):
        node_creation(XOR.inputs, XOR.targets[:3])
    with pytest.raises(InvalidInputError, match="nothing to learn"):
        node_creation(XOR.inputs, XOR.targets, seeds=[])
