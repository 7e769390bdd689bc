"""A study does each piece once, adds what is asked for, judges on test images."""

import json
from dataclasses import dataclass, replace

import pytest
import torch

from gradnet.checkpoints.snapshots import load_snapshot, save_snapshot
from gradnet.classifier.predictor import GradNetPredictor
from gradnet.classifier.recipes import DEFAULT, GRADNET_2018
from gradnet.core.json_lines import JsonLines
from gradnet.data.problem import ProblemSettings, make_problem
from gradnet.errors import GradnetError
from gradnet.experiments.base_network import BaseSettings
from gradnet.experiments.controls import ControlSettings
from gradnet.experiments.gradnet_study import Study, StudySettings
from gradnet.training.loop import TrainingSettings, _Run
from gradnet.training.supervised import evaluate

QUICK = replace(DEFAULT, training=replace(DEFAULT.training, steps=10, evaluate_every=5))
BASE = BaseSettings(
    "mlp",
    hidden=[8],
    levels=[0.3, 0.5],
    training=TrainingSettings(steps=200, optimizer="adamw", learning_rate=3e-3),
)
SETTINGS = StudySettings(BASE, {"default": QUICK})


@pytest.fixture(scope="module")
def problem():
    return make_problem(ProblemSettings(device="cpu"))


@pytest.fixture(scope="module")
def finished(problem, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    return folder, Study(problem, SETTINGS, folder).run()


def nothing_is_done(monkeypatch):
    """What trains or evaluates fails when it is called."""
    monkeypatch.setattr("gradnet.experiments.gradnet_study.train_base", None)
    for name in ("fit_and_save", "train_control", "evaluate"):
        monkeypatch.setattr(f"gradnet.experiments.base_comparison.{name}", None)


def test_every_level_has_its_base_its_gradnet_and_its_controls(finished):
    _, rows = finished
    assert [(row["level"], row["method"]) for row in rows] == [
        (level, method)
        for level in (0.3, 0.5)
        for method in ("base", "default", "fine-tuned", "last-layer")
    ]


def test_accuracies_are_those_of_the_saved_networks_on_the_test_images(
    finished, problem
):
    folder, rows = finished
    base = load_snapshot(folder / "snapshots/seed-0/level-0.5.safetensors").model
    path = folder / "gradnets/seed-0/level-0.5/default.safetensors"
    predictor = GradNetPredictor.load(path, base)
    x = problem.augmentation.evaluate(problem.data.x_test)
    hits = predictor.scores(x).argmax(1) == problem.data.y_test
    found = {r["method"]: r["test_accuracy"] for r in rows if r["level"] == 0.5}
    assert found["default"] == pytest.approx(hits.float().mean().item(), abs=1e-4)
    expected = evaluate(base, problem.test)["accuracy"]
    assert found["base"] == pytest.approx(expected, abs=1e-4)


def test_controls_see_as_many_samples_as_gradnet(finished):
    _, rows = finished
    seen = {row["samples_seen"] for row in rows if row["method"] != "base"}
    assert seen == {640}


def test_metrics_hold_the_seconds_and_rates_of_each_stage(finished):
    folder, _ = finished
    stages = [
        record
        for record in JsonLines(folder / "metrics.jsonl").read()
        if record["event"] == "finished"
    ]
    assert len(stages) == 1 + 8
    fitted = [record for record in stages if record.get("method") == "default"]
    for record in fitted:
        assert record["fit_gradients_per_second"] > 0
        assert record["evaluate_gradients_per_second"] > 0
        assert record["fit_seconds"] > 0 and record["evaluate_seconds"] > 0
    assert stages[0]["stage"] == "base" and stages[0]["fit_seconds"] > 0


def test_what_is_done_is_not_done_again(finished, problem, monkeypatch):
    folder, rows = finished
    nothing_is_done(monkeypatch)
    assert Study(problem, SETTINGS, folder).run() == rows


def test_seeds_and_recipes_can_be_added_later(problem, tmp_path):
    one = replace(SETTINGS, controls=None, base=replace(BASE, levels=[0.3]))
    Study(problem, one, tmp_path).run()
    old = replace(GRADNET_2018, hidden=2, training=QUICK.training)
    more = replace(one, recipes={"old": old}, seeds=(0, 1))
    rows = Study(problem, more, tmp_path).run()
    found = {(row["seed"], row["method"]) for row in rows}
    expected = {(0, "base"), (0, "default"), (0, "old"), (1, "base"), (1, "old")}
    assert found == expected


def test_a_finished_row_of_another_recipe_is_refused(finished, problem):
    folder, _ = finished
    other = replace(SETTINGS, recipes={"default": replace(QUICK, hidden=2)})
    with pytest.raises(GradnetError, match="hidden was 1, now 2"):
        Study(problem, other, folder).run()


def test_epochs_cut_the_steps(problem, tmp_path):
    settings = replace(SETTINGS, max_epochs=0.5, controls=ControlSettings())
    rows = Study(problem, replace(settings, seeds=(2,)), tmp_path).run()
    steps = round(0.5 * len(problem.splits.gradnet_train) / 64)
    found = {r["samples_seen"] for r in rows if r["method"] == "default"}
    assert found == {steps * 64}


@pytest.mark.parametrize("nothing", [{"recipes": {}}, {"seeds": ()}])
def test_a_study_of_nothing_is_refused(problem, tmp_path, nothing):
    with pytest.raises(GradnetError, match="at least one"):
        Study(problem, replace(SETTINGS, **nothing), tmp_path)


@dataclass(frozen=True)
class LaterTraining(TrainingSettings):
    """The settings of a later version, with one more field."""

    warm_up: int = 0


def later(settings):
    """The same settings in that version."""
    base = replace(settings.base, training=LaterTraining(**vars(BASE.training)))
    recipe = replace(QUICK, training=LaterTraining(**vars(QUICK.training)))
    return replace(settings, base=base, recipes={"default": recipe})


def test_a_new_setting_leaves_finished_rows_done(finished, problem, monkeypatch):
    folder, rows = finished
    nothing_is_done(monkeypatch)
    settings = replace(later(SETTINGS), controls=None)
    assert Study(problem, settings, folder).run() == rows


def test_a_new_setting_leaves_an_unfinished_run_to_be_resumed(
    problem, tmp_path, monkeypatch
):
    settings = replace(SETTINGS, controls=None, base=replace(BASE, levels=[0.3]))
    steps, train_step = [], _Run.train_step

    def interrupted(run):
        if run.settings.steps == 10 and run.step == 7:
            raise KeyboardInterrupt
        train_step(run)

    monkeypatch.setattr(_Run, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Study(problem, settings, tmp_path).run()
    monkeypatch.setattr(
        _Run, "train_step", lambda run: (steps.append(run.step), train_step(run))[1]
    )
    rows = Study(problem, later(settings), tmp_path).run()
    assert steps == [5, 6, 7, 8, 9] and len(rows) == 2


def test_a_base_network_whose_end_was_not_logged_is_logged(problem, tmp_path):
    settings = replace(SETTINGS, controls=None, base=replace(BASE, levels=[0.3]))
    Study(problem, settings, tmp_path).train_base(0)
    log = tmp_path / "metrics.jsonl"
    before = log.read_text()
    log.write_text("".join(before.splitlines(keepends=True)[:-1]))
    Study(problem, settings, tmp_path).train_base(0)
    records = JsonLines(log).read()
    assert [r["step"] for r in records if r["event"] == "evaluation"] == [
        r["step"] for r in map(json.loads, before.splitlines()) if "step" in r
    ]
    (ended,) = [r for r in records if r["event"] == "finished"]
    assert ended == json.loads(before.splitlines()[-1])


def test_a_row_whose_base_network_was_exchanged_is_refused(problem, tmp_path):
    settings = replace(SETTINGS, controls=None, base=replace(BASE, levels=[0.3]))
    Study(problem, settings, tmp_path).run()
    path = tmp_path / "snapshots/seed-0/level-0.3.safetensors"
    snapshot = load_snapshot(path)
    with torch.no_grad():
        next(snapshot.model.parameters()).mul_(2)
    save_snapshot(path, snapshot.model, snapshot.info)
    with pytest.raises(GradnetError, match="base was '.*', now '.*'"):
        Study(problem, settings, tmp_path).run()


def test_another_rhythm_of_evaluations_is_another_study(problem, tmp_path):
    Study(problem, SETTINGS, tmp_path)
    other = replace(SETTINGS, base=replace(BASE, evaluations_per_epoch=4))
    with pytest.raises(GradnetError, match="evaluations_per_epoch was 8, now 4"):
        Study(problem, other, tmp_path)
