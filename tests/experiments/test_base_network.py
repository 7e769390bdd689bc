"""Snapshots are saved when a level is first passed, and training ends with the last."""

import pytest
import torch

from gradnet.checkpoints.snapshots import load_snapshot
from gradnet.data.problem import ProblemSettings, make_problem
from gradnet.errors import GradnetError
from gradnet.experiments import base_network
from gradnet.experiments.base_network import BaseSettings, train_base
from gradnet.training import loop
from gradnet.training.loop import Callbacks, TrainingSettings
from gradnet.training.supervised import evaluate

QUICK = TrainingSettings(steps=200, optimizer="adamw", learning_rate=3e-3)


@pytest.fixture(scope="module")
def problem():
    return make_problem(ProblemSettings(device="cpu"))


def settings(*levels):
    return BaseSettings(model="mlp", hidden=[16], levels=list(levels), training=QUICK)


def test_a_snapshot_is_the_network_that_passed_its_level(problem, tmp_path):
    records = []
    callbacks = Callbacks(on_evaluation=records.append)
    found, _ = train_base(problem, settings(0.6, 0.3), 0, tmp_path, callbacks)
    assert list(found) == [0.3, 0.6]
    for level, path in found.items():
        snapshot = load_snapshot(path)
        first = next(r for r in records if r["accuracy"] >= level)
        assert snapshot.info.step == first["step"]
        assert snapshot.info.level == level
        again = evaluate(snapshot.model, problem.base_half)
        assert again["accuracy"] == snapshot.info.validation_accuracy
    assert records[-1]["accuracy"] >= 0.6 > records[-2]["accuracy"]


def test_a_higher_level_can_be_asked_for_later(problem, tmp_path):
    train_base(problem, settings(0.3), 0, tmp_path / "a")
    found, _ = train_base(problem, settings(0.3, 0.6), 0, tmp_path / "a")
    whole, _ = train_base(problem, settings(0.3, 0.6), 0, tmp_path / "b")
    one, two = (load_snapshot(paths[0.6]) for paths in (found, whole))
    assert one.info == two.info
    for name, tensor in one.model.state_dict().items():
        assert torch.equal(tensor, two.model.state_dict()[name])


def test_a_run_that_is_killed_before_its_checkpoint_ends_as_one_that_is_not(
    problem, tmp_path, monkeypatch
):
    """Snapshots are written first; training still goes on to the evaluation."""
    whole, expected = train_base(problem, settings(0.3, 0.6), 0, tmp_path / "whole")
    last = expected.records[-1]["step"]
    save = loop._Run.save

    def killed(run):
        if run.step == last:
            raise KeyboardInterrupt
        save(run)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop._Run, "save", killed)
        train_base(problem, settings(0.3, 0.6), 0, tmp_path / "killed")
    assert (tmp_path / "killed/level-0.6.safetensors").exists()
    found, history = train_base(problem, settings(0.3, 0.6), 0, tmp_path / "killed")
    steps = [[r["step"] for r in h.records] for h in (history, expected)]
    assert steps[0] == steps[1]
    for level, path in whole.items():
        assert load_snapshot(found[level]).info == load_snapshot(path).info


def test_the_stopping_rule_writes_nothing(problem, tmp_path, monkeypatch):
    real_fit, folder = base_network.fit, tmp_path / "run"
    calls = []

    def fit(*arguments, should_stop, **others):
        def looked_at(record):
            before = sorted(folder.iterdir())
            stops = should_stop(record)
            assert sorted(folder.iterdir()) == before
            calls.append(stops)
            return stops

        return real_fit(*arguments, should_stop=looked_at, **others)

    monkeypatch.setattr(base_network, "fit", fit)
    train_base(problem, settings(0.3), 0, folder)
    assert calls == [False] * (len(calls) - 1) + [True]


def test_a_level_that_was_passed_unsaved_is_refused(problem, tmp_path):
    train_base(problem, settings(0.6), 0, tmp_path)
    with pytest.raises(GradnetError, match="level 0.3 was passed unsaved"):
        train_base(problem, settings(0.3, 0.9), 0, tmp_path)


def test_levels_that_are_not_reached_are_left_out(problem, tmp_path):
    found, history = train_base(problem, settings(0.3, 1.0), 0, tmp_path)
    assert list(found) == [0.3]
    assert history.records[-1]["step"] == 200


def test_levels_by_a_step():
    assert BaseSettings(level_step=0.25).all_levels() == [0.25, 0.5, 0.75, 1.0]
    assert len(BaseSettings(level_step=0.05).all_levels()) == 20


@pytest.mark.parametrize("bad", [{"levels": []}, {"levels": [1.2]}, {"level_step": 2}])
def test_levels_that_are_none_are_refused(bad):
    with pytest.raises(GradnetError, match="level"):
        BaseSettings(**bad).all_levels()


def test_the_network_follows_the_size_of_the_images(problem):
    assert BaseSettings().model_name(problem) == "cnn-small"
    arguments = BaseSettings(width=5).model_arguments(problem)
    assert arguments["width"] == 5 and arguments["in_channels"] == 1
