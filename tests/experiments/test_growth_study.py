"""A growth study does each run once, says what it reached and cost, refuses others."""

import json
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from gradnet.core.flops import count_parameters, forward_flops, training_flops
from gradnet.core.json_lines import JsonLines
from gradnet.data.problem import ProblemSettings, SplitSettings, make_problem
from gradnet.errors import GradnetError
from gradnet.experiments import growth_study
from gradnet.experiments.growth_study import GrowthStudy, within_flops
from gradnet.experiments.results import read_rows
from gradnet.growth.grown_network import load_grown, read_grown
from gradnet.growth.method import Schedule
from gradnet.growth.methods.net2net import Net2Wider
from gradnet.growth.methods.optimal_brain_damage import OptimalBrainDamage
from gradnet.training.loop import TrainingSettings
from gradnet.training.supervised import evaluate

TRAINING = TrainingSettings(
    steps=12, batch_size=32, optimizer="adamw", learning_rate=3e-3, evaluate_every=4
)
WIDER = Net2Wider(
    training=TRAINING,
    growth=Schedule(first=6),
    model_args={"hidden": [6]},
    wider={"linear0": 9},
)


PRUNING = OptimalBrainDamage(
    training=TRAINING, growth=Schedule(first=0, every=4), rounds=2
)


class Direct(Net2Wider):
    """A network that does not grow."""

    @property
    def edits(self):
        return 0


@pytest.fixture(scope="module")
def problem():
    return make_problem(ProblemSettings(device="cpu"))


@pytest.fixture(scope="module")
def folder(problem, tmp_path_factory):
    folder = tmp_path_factory.mktemp("growth")
    torch.set_num_threads(1)  # as in each test: sums depend on it in their last bits
    study = GrowthStudy(problem, folder)
    for seed in (0, 1):
        study.run("wider", WIDER, seed)
    return folder


@contextmanager
def stopping():
    """Runs are interrupted at step 8."""
    append = JsonLines.append

    def stop_late(self, record):
        append(self, record)
        if record.get("step") == 8:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JsonLines, "append", stop_late)
        yield


def test_a_row_says_what_was_reached_and_what_it_cost(folder, problem):
    rows = read_rows(folder)
    assert [(row["seed"], row["method"]) for row in rows] == [
        (0, "wider"),
        (1, "wider"),
    ]
    row = rows[0]
    network = load_grown(folder / "networks/seed-0/wider.safetensors")
    assert row["test_accuracy"] == pytest.approx(
        evaluate(network, problem.test)["accuracy"], abs=1e-4
    )
    assert row["validation_accuracy"] == pytest.approx(
        evaluate(network, problem.all_training)["accuracy"], abs=1e-4
    )
    assert (row["steps"], row["samples_seen"], row["edits"]) == (12, 12 * 32, 1)
    assert row["parameters"] == count_parameters(network) == 64 * 9 + 9 + 9 * 10 + 10
    probe = problem.augmentation.evaluate(problem.data.x_train[:2])
    assert row["inference_flops"] == forward_flops(network, probe) == 2 * 9 * 74
    # Six steps of 32 images each way; the first layer's input needs no gradient.
    before, after = (2 * 2 * 64 * h + 3 * 2 * 10 * h for h in (6, 9))
    assert row["training_flops"] == 6 * 32 * (before + after)
    kinds = row["training_flops_by_kind"]
    assert sum(kinds.values()) == row["training_flops"]
    assert row["settings"]["growth_method"] == "Net2Wider"
    assert row["settings"]["training"]["steps"] == 12


def test_a_small_difference_of_logits_does_not_read_as_none(folder):
    edits = [
        r for r in JsonLines(folder / "metrics.jsonl").read() if r["event"] == "edit"
    ]
    for row, edit in zip(read_rows(folder), edits, strict=True):
        assert edit["seed"] == row["seed"]
        assert row["largest_difference"] == pytest.approx(
            edit["largest_difference"], rel=1e-3
        )
        assert 0 < row["largest_difference"] < 1e-4


def test_every_evaluation_and_edit_is_logged_once(folder):
    places = [(0, 0), (0, 4), (0, 6), (1, 6), (1, 8), (1, 12)]
    expected = [("evaluation", *place) for place in places]
    expected += [("edit", 1, 6), ("finished", None, None)]
    for seed in (0, 1):
        records = JsonLines(folder / "metrics.jsonl").read()
        found = [
            (record["event"], record.get("stage"), record.get("step"))
            for record in records
            if record["seed"] == seed
        ]
        # A finished run's steps stand in its row.
        assert [(e, s, None if e == "finished" else n) for e, s, n in found] == expected


def test_nothing_is_left_of_checkpoints(folder):
    assert not list(folder.rglob("*.pt")) and not list(folder.rglob("*.part"))


def test_a_finished_row_is_not_done_again(folder, problem, monkeypatch):
    monkeypatch.setattr(growth_study, "grow", None)
    before = read_rows(folder)
    GrowthStudy(problem, folder).run("wider", WIDER, 0)
    assert read_rows(folder) == before


def test_a_run_begins_with_a_grown_network_and_goes_on_from_it(
    folder, problem, tmp_path
):
    start = read_grown(folder / "networks/seed-0/wider.safetensors")
    study = GrowthStudy(problem, tmp_path)
    study.run("pruned", PRUNING, 0, start=start)
    first = JsonLines(tmp_path / "metrics.jsonl").read()[0]
    before = evaluate(start.model, problem.all_training)
    assert first["accuracy"] == pytest.approx(before["accuracy"], abs=1e-4)
    (row,) = read_rows(tmp_path)
    # Two rounds of a tenth of the weights; the biases stay.
    weights = 64 * 9 + 9 * 10
    for _ in range(2):
        weights -= weights // 10
    assert row["parameters"] == weights + 9 + 10
    other = read_grown(folder / "networks/seed-1/wider.safetensors")
    with pytest.raises(GradnetError, match="made with other settings .start was '"):
        study.run("pruned", PRUNING, 0, start=other)
    with pytest.raises(GradnetError, match="made with other settings .start was '"):
        study.run("pruned", PRUNING, 0)


def test_deleted_weights_are_not_counted_whatever_comes_after(
    folder, problem, tmp_path
):
    start = read_grown(folder / "networks/seed-0/wider.safetensors")
    study = GrowthStudy(problem, tmp_path)
    study.run("pruned", PRUNING, 0, start=start)
    pruned = read_grown(tmp_path / "networks/seed-0/pruned.safetensors")
    study.run("on", Net2Wider(training=TRAINING, wider={}), 0, start=pruned)
    rows = {row["method"]: row["parameters"] for row in read_rows(tmp_path)}
    assert rows["on"] == rows["pruned"] < count_parameters(start.model)
    records = JsonLines(tmp_path / "metrics.jsonl").read()
    found = [r for r in records if (r["method"], r["event"]) == ("on", "evaluation")]
    assert {record["parameters"] for record in found} == {rows["on"]}
    with pytest.raises(GradnetError, match="pruned, and Net2Wider would not keep"):
        study.run("wider", WIDER, 0, start=pruned)


def test_a_checkpoint_of_another_start_is_refused(folder, problem, tmp_path):
    starts = [
        read_grown(folder / f"networks/seed-{n}/wider.safetensors") for n in (0, 1)
    ]
    study = GrowthStudy(problem, tmp_path)
    method = replace(WIDER, wider={"linear0": 11})
    with stopping(), pytest.raises(KeyboardInterrupt):
        study.run("wider", method, 0, start=starts[0])
    with pytest.raises(GradnetError, match="is of another run: start was '"):
        study.run("wider", method, 0, start=starts[1])
    study.run("wider", method, 0, start=starts[0])
    network = load_grown(tmp_path / "networks/seed-0/wider.safetensors")
    assert network.linear0.out_features == 11


def test_a_finished_row_of_other_settings_is_refused(folder, problem):
    study = GrowthStudy(problem, folder)
    with pytest.raises(GradnetError, match="student_rate was 0.1, now 0.5"):
        study.run("wider", replace(WIDER, student_rate=0.5), 0)
    with pytest.raises(
        GradnetError, match="growth_method was 'Net2Wider', now 'Direct'"
    ):
        study.run("wider", Direct(**vars(WIDER)), 0)


def test_a_folder_of_another_problem_is_refused(folder):
    other = make_problem(ProblemSettings(device="cpu", split=SplitSettings(seed=1)))
    with pytest.raises(GradnetError, match="holds another study .*split_fingerprint"):
        GrowthStudy(other, folder)


def test_a_stopped_run_continues(folder, problem, tmp_path):
    study = GrowthStudy(problem, tmp_path)
    with stopping(), pytest.raises(KeyboardInterrupt):
        study.run("wider", WIDER, 0)
    assert list(tmp_path.rglob("*.pt"))
    GrowthStudy(problem, tmp_path).run("wider", WIDER, 0)
    name = "networks/seed-0/wider.safetensors"
    assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()

    def told(path):
        """All but seconds, and the order in which a resumed run writes its lines."""
        lines = [r for r in JsonLines(path / "metrics.jsonl").read() if r["seed"] == 0]
        kept = [{k: v for k, v in r.items() if "seconds" not in k} for r in lines]
        return sorted(json.dumps(record, sort_keys=True) for record in kept)

    assert told(tmp_path) == told(folder)
    assert not list(tmp_path.rglob("*.pt"))


def test_flops_are_as_many_steps_as_they_pay_for(problem):
    direct = Direct(**vars(WIDER))
    each = 32 * (2 * 2 * 64 * 6 + 3 * 2 * 6 * 10)
    for flops, steps in ((7 * each, 7), (8 * each - 1, 7), (each, 1)):
        found = within_flops(direct, problem, flops)
        assert found == replace(direct, training=replace(TRAINING, steps=steps))
    with pytest.raises(
        GradnetError, match="one step takes 6.07e\\+04 FLOPs, more than 9"
    ):
        within_flops(direct, problem, 9.0)


def test_flops_count_no_more_images_than_there_are(problem):
    direct = Direct(**{**vars(WIDER), "training": replace(TRAINING, batch_size=10**6)})
    images = len(problem.all_training.train)
    network = direct.initial_model(problem.input_shape, 10)
    probe = problem.augmentation.evaluate(problem.data.x_train[:2])
    each = training_flops(network, probe).total * images
    assert within_flops(direct, problem, 3 * each).training.steps == 3


def test_counting_the_flops_of_a_step_draws_nothing(problem):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    within_flops(Direct(**vars(WIDER)), problem, 1e9)
    assert torch.equal(torch.rand(3), expected)


def test_a_budget_of_flops_is_not_for_what_grows(problem, tmp_path):
    with pytest.raises(GradnetError, match="max_flops is for a network that does not"):
        within_flops(WIDER, problem, 1e9)
    study = GrowthStudy(problem, tmp_path)
    with pytest.raises(GradnetError, match="max_flops"):
        study.run("wider", WIDER, 0, max_flops=1e9)
    assert not (tmp_path / "results").exists()
