"""Trials tell of each network what its method found, and of its test set."""

import pytest
import torch

from gradnet.constructive.cascade.settings import CascadeSettings
from gradnet.constructive.cascade.trainer import cascade_correlation
from gradnet.constructive.node_creation import NodeCreationSettings, node_creation
from gradnet.data.toy_problems import classic_problem
from gradnet.experiments.trials import cascade_trials, node_creation_trials

QUICK = NodeCreationSettings(window=30, threshold=0.5, max_sweeps=100)


def test_a_row_a_trial_as_the_method_says():
    problem = classic_problem("parity-3")
    settings = CascadeSettings(activations=["gaussian"])
    trials = cascade_trials(problem, settings, [4, 5])
    result = cascade_correlation(
        problem.inputs - 0.5, problem.targets - 0.5, settings, seeds=[4, 5]
    )
    assert [row["trial"] for row in trials.rows] == [4, 5]
    for name in ("solved", "hidden_units", "epochs", "depth", "crossings"):
        found = [row[name] for row in trials.rows]
        assert found == getattr(result, name).tolist()
    outputs = trials.outputs(problem.inputs, None)
    assert ((outputs > 0) == (problem.targets > 0.5)).all()
    assert trials.seconds > 0


def test_coordinates_are_left_as_they_are():
    problem = classic_problem("two-spirals")
    settings = CascadeSettings(max_units=1)
    trials = cascade_trials(problem, settings, [0])
    result = cascade_correlation(
        problem.inputs, problem.targets - 0.5, settings, seeds=[0]
    )
    points = problem.inputs[:5]
    assert torch.equal(trials.outputs(points, 1), result.network(points, 1))


@pytest.mark.parametrize("run", [cascade_trials, node_creation_trials])
def test_test_accuracy_is_that_of_the_networks(run):
    problem = classic_problem("monks-1")
    settings = CascadeSettings(max_units=2) if run is cascade_trials else QUICK
    trials = run(problem, settings, [0, 1])
    for place, row in enumerate(trials.rows):
        if run is cascade_trials:
            outputs = trials.outputs(problem.test_inputs, None)[place]
        else:
            result = node_creation(
                problem.inputs, problem.targets, settings, seeds=[0, 1]
            )
            outputs = result.networks(problem.test_inputs)[place] - 0.5
        right = ((outputs > 0) == (problem.test_targets > 0.5)).double().mean()
        assert row["test_accuracy"] == pytest.approx(right.item())


def test_errors_are_cut_where_units_were_added():
    problem = classic_problem("xor")
    trials = node_creation_trials(problem, QUICK, [0, 1])
    result = node_creation(problem.inputs, problem.targets, QUICK, seeds=[0, 1])
    for place in range(2):
        pieces = [stage[place][~stage[place].isnan()] for stage in trials.errors]
        errors = result.errors[place]
        assert torch.equal(torch.cat(pieces), errors[~errors.isnan()])
        ends = torch.tensor([len(piece) for piece in pieces]).cumsum(0).tolist()
        additions = list(result.additions[place])
        assert additions and ends[: len(additions)] == additions
