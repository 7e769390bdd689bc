"""Trials tell of each network what its method found, and of its test set."""

from dataclasses import dataclass, replace

import pytest
import torch

from gradnet.constructive.cascade.settings import CascadeSettings
from gradnet.constructive.cascade.trainer import cascade_correlation
from gradnet.constructive.node_creation import NodeCreationSettings, node_creation
from gradnet.core.files import read_json
from gradnet.data.toy_problems import classic_problem
from gradnet.errors import GradnetError
from gradnet.experiments import trials as trials_module
from gradnet.experiments.trials import TrialStudy, cascade_trials, node_creation_trials

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


def files_of(folder):
    """What a batch of trials leaves in its folder, without times."""
    names = ("trials.csv", "table.md", "hidden-units.png", "errors.png")
    return {name: (folder / name).read_bytes() for name in names}


def test_finished_trials_are_not_done_again(tmp_path, monkeypatch):
    problem = classic_problem("parity-3")
    row = TrialStudy("node-creation", problem, tmp_path, 2, seed=4).run(QUICK)
    before = files_of(tmp_path)
    assert [trial["trial"] for trial in row["trials"]] == [4, 5]
    expected = node_creation_trials(problem, QUICK, [4, 5]).rows
    assert row["trials"] == list(expected)
    record = read_json(tmp_path / "trials.json")
    assert list(record) == ["seconds", "hardware", "versions", "trials"]
    assert record["trials"] == row["trials"]
    monkeypatch.setattr(trials_module, "RUNNERS", {"node-creation": None})
    (tmp_path / "table.md").unlink()
    again = TrialStudy("node-creation", problem, tmp_path, 2, seed=4).run(QUICK)
    assert again == row and files_of(tmp_path) == before


@dataclass(frozen=True)
class LaterSettings(NodeCreationSettings):
    """The settings, with a field that was added later."""

    noise: float = 0.0


def test_a_new_field_of_the_settings_leaves_finished_trials_done(tmp_path):
    problem = classic_problem("xor")
    row = TrialStudy("node-creation", problem, tmp_path, 1).run(QUICK)
    later = LaterSettings(window=30, threshold=0.5, max_sweeps=100)
    assert TrialStudy("node-creation", problem, tmp_path, 1).run(later) == row
    with pytest.raises(GradnetError, match="noise was None, now 0.1"):
        TrialStudy("node-creation", problem, tmp_path, 1).run(replace(later, noise=0.1))


def test_a_folder_of_other_trials_is_refused(tmp_path):
    xor = classic_problem("xor")
    TrialStudy("node-creation", xor, tmp_path, 1).run(QUICK)
    before = files_of(tmp_path)
    with pytest.raises(GradnetError, match="name was 'xor', now 'parity-3'"):
        TrialStudy("node-creation", classic_problem("parity-3"), tmp_path, 1)
    with pytest.raises(GradnetError, match="method was 'node-creation', now 'casc"):
        TrialStudy("cascade-correlation", xor, tmp_path, 1)
    with pytest.raises(GradnetError, match="seed was 0, now 1"):
        TrialStudy("node-creation", xor, tmp_path, 1, seed=1)
    with pytest.raises(GradnetError, match="number_of_trials was 1, now 2"):
        TrialStudy("node-creation", xor, tmp_path, 2).run(QUICK)
    with pytest.raises(GradnetError, match="window was 30, now 20"):
        TrialStudy("node-creation", xor, tmp_path, 1).run(replace(QUICK, window=20))
    assert files_of(tmp_path) == before


def test_no_folder_is_claimed_for_no_trial(tmp_path):
    folder = tmp_path / "new"
    with pytest.raises(GradnetError, match="trials is 0; give at least one"):
        TrialStudy("node-creation", classic_problem("xor"), folder, 0)
    with pytest.raises(GradnetError, match="cornet does not run on classic problems"):
        TrialStudy("cornet", classic_problem("xor"), folder, 1)
    assert not folder.exists()
