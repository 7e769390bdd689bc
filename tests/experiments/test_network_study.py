"""A study of one's own network: unseen data only, resumable, the network untouched."""

import copy
import json
from dataclasses import replace

import pytest
import torch
from torch import nn
from untouched import photograph

from gradnet.classifier.predictor import GradNetPredictor
from gradnet.classifier.recipes import DEFAULT
from gradnet.data.network_inputs import NetworkInputs, as_they_are
from gradnet.data.unseen import DataParts, split_unseen
from gradnet.errors import BusyError, GradnetError, InvalidInputError
from gradnet.experiments.network_study import (
    NetworkStudy,
    NetworkStudySettings,
    copy_of,
)
from gradnet.training.loop import _Run
from gradnet.training.supervised import evaluate

QUICK = replace(DEFAULT, training=replace(DEFAULT.training, steps=10, evaluate_every=5))
SETTINGS = NetworkStudySettings({"default": QUICK}, rates=(1e-2, 1e-3))


def part(count, seed):
    x = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))
    return x, (x[:, 0] > 0).long() + (x[:, 1] > 0).long()


PARTS = {"train": part(90, 0), "test": part(60, 1)}


def unseen(seen="none", parts=PARTS, **changes):
    data = DataParts.of_arrays(parts, num_classes=3)
    return split_unseen(
        data, seen, NetworkInputs(as_they_are, torch.float32, **changes)
    )


class Remembers(nn.Module):
    """Stores a tensor in its forward pass, as some networks do."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(8, 3)  # named before what is called before it
        self.body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU())
        self.last = None

    def forward(self, x):
        self.last = self.body(x)
        return self.head(self.last)


def study(network, folder, settings=SETTINGS, **changes):
    return NetworkStudy(network, unseen(**changes), settings, folder, seen="none")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("network")
    network = Remembers()
    return folder, network, study(network, folder).run()


def test_the_rows_are_the_base_its_gradnet_and_its_controls(finished):
    folder, _, rows = finished
    assert [row["method"] for row in rows] == [
        *("base", "default", "fine-tuned", "last-layer")
    ]
    assert all("level" not in row for row in rows)
    assert {row["samples_seen"] for row in rows[1:]} == {80}  # 10 steps of 8
    assert {row.get("learning_rate") for row in rows[2:]} <= {1e-2, 1e-3}
    about = json.loads((folder / "study.json").read_text())
    assert (about["seen"], about["trained_on"]) == ("none", "the train part")
    assert (about["train_samples"], about["test_samples"]) == (81, 60)
    assert not list(folder.rglob("*.pt"))


def test_accuracies_are_those_on_the_test_part(finished):
    folder, network, rows = finished
    base = copy.deepcopy(network).eval()
    data = unseen()
    expected = evaluate(base, data.test)["accuracy"]
    assert rows[0]["test_accuracy"] == pytest.approx(expected, abs=1e-4)
    path = folder / "gradnets/seed-0/default.safetensors"
    predictor = GradNetPredictor.load(path, base)
    x, y = PARTS["test"]
    found = (predictor.scores(x).argmax(1) == y).float().mean().item()
    assert rows[1]["test_accuracy"] == pytest.approx(found, abs=1e-4)


def test_the_rate_that_is_best_on_the_validation_part_counts(finished, tmp_path):
    _, network, rows = finished
    alone = {}
    for rate in SETTINGS.rates:
        one = replace(SETTINGS, rates=(rate,))
        for row in study(network, tmp_path / f"{rate}", one).run()[2:]:
            alone[row["method"], rate] = row
    for row in rows[2:]:
        both = [alone[row["method"], rate] for rate in SETTINGS.rates]
        best = max(one["validation_accuracy"] for one in both)
        chosen = alone[row["method"], row["learning_rate"]]
        assert chosen["validation_accuracy"] == best == row["validation_accuracy"]
        assert chosen["test_accuracy"] == row["test_accuracy"]


def test_the_network_is_untouched_also_in_training_mode_and_after_exceptions(
    tmp_path, monkeypatch
):
    network = Remembers().train()
    network.head.weight.requires_grad_(False)
    network.body[0].weight.grad = torch.ones(8, 4)
    network(torch.ones(2, 4))  # keeps a tensor with its graph
    random = torch.get_rng_state()
    before = photograph(network)
    study(network, tmp_path / "done").run()
    assert photograph(network) == before
    with pytest.raises(InvalidInputError):
        study(network, tmp_path / "no", parts={**PARTS, "test": part(9, 0)}, seen="?")
    monkeypatch.setattr(_Run, "train_step", lambda run: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        study(network, tmp_path / "failed").run()
    assert photograph(network) == before
    assert torch.equal(torch.get_rng_state(), random)


def test_a_photograph_sees_every_kind_of_change():
    changes = [
        lambda n: n.train(not n.training),
        lambda n: n.head.weight.data[0, 0].add_(1),
        lambda n: n.head.weight.requires_grad_(False),
        lambda n: setattr(n.head, "weight", nn.Parameter(n.head.weight.detach())),
        lambda n: setattr(n, "last", torch.zeros(1)),
        lambda n: n.register_forward_hook(lambda *_: None),
        lambda n: n.body[1].running_mean.data.fill_(1),
        lambda n: setattr(n.head.weight, "grad", torch.zeros(3, 8)),
    ]
    for change in changes:
        network = Remembers()
        before = photograph(network)
        assert photograph(network) == before
        change(network)
        assert photograph(network) != before


def test_a_stopped_study_continues_to_the_same_numbers(finished, tmp_path, monkeypatch):
    _, network, expected = finished
    train_step, left = _Run.train_step, [23]

    def interrupted(run):
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        train_step(run)

    monkeypatch.setattr(_Run, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        study(network, tmp_path).run()
    rows = study(network, tmp_path).run()
    names = ("method", "test_accuracy", "validation_accuracy", "best_step")
    for row, other in zip(rows, expected, strict=True):
        assert [row.get(n) for n in names] == [other.get(n) for n in names]
    assert left[0] < -15  # what was done before was not done again, and all else was


def test_what_is_done_is_not_done_again_and_seeds_can_be_added(
    finished, tmp_path, monkeypatch
):
    _, network, _ = finished
    settings = replace(SETTINGS, controls=None)
    rows = study(network, tmp_path, settings).run()
    more = study(network, tmp_path, replace(settings, seeds=(0, 3))).run()
    assert more[:2] == rows and [row["seed"] for row in more] == [0, 0, 3, 3]
    for name in ("fit_and_save", "evaluate"):
        monkeypatch.setattr(f"gradnet.experiments.base_comparison.{name}", None)
    assert study(network, tmp_path, settings).run() == more


def test_another_network_other_data_and_other_inputs_are_refused(finished):
    folder, network, _ = finished
    trained = copy.deepcopy(network)
    trained.head.bias.data[0] += 1
    relu = copy.deepcopy(network)
    relu.body[2] = nn.GELU()
    with pytest.raises(InvalidInputError, match="weights was"):
        study(trained, folder)
    with pytest.raises(InvalidInputError, match="layers was"):
        study(relu, folder)
    with pytest.raises(InvalidInputError, match="problem.data_fingerprint was"):
        study(network, folder, parts={**PARTS, "train": part(90, 5)})
    with pytest.raises(InvalidInputError, match="problem.preparation was"):
        data = unseen()
        other = NetworkInputs(torch.tanh, torch.float32)
        changed = replace(
            data,
            samples=replace(data.samples, augmentation=other),
            test=replace(data.test, augmentation=other),
        )
        NetworkStudy(network, changed, SETTINGS, folder, seen="none")
    with pytest.raises(InvalidInputError, match="seen was 'none', now 'train'"):
        NetworkStudy(network, unseen("train"), SETTINGS, folder, seen="train")


def test_two_processes_are_not_at_one_seed(finished):
    folder, network, _ = finished
    with study(network, folder).running(), pytest.raises(BusyError, match="seed-0"):
        study(network, folder).run()


def test_misfits_are_refused_before_any_file_is_written(tmp_path):
    for network, message in (
        (nn.Linear(4, 10), "has 10 logits, the data have 3 classes"),
        (nn.Linear(5, 3), "fails on an image of"),
        (nn.Linear(4, 3).requires_grad_(False).bfloat16(), "fails on an image of"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            study(network, tmp_path / "none")
    with pytest.raises(InvalidInputError, match="are no images"):
        study(nn.Linear(4, 3), tmp_path / "none", flip=True)
    with pytest.raises(GradnetError, match="at least one recipe"):
        study(nn.Linear(4, 3), tmp_path / "none", replace(SETTINGS, recipes={}))
    assert not (tmp_path / "none").exists()


class Auxiliary(nn.Linear):
    """Returns auxiliary logits as well while it is trained."""

    def forward(self, x):
        logits = super().forward(x)
        return (logits, logits) if self.training else logits


def test_a_network_that_cannot_be_trained_is_studied_without_controls(tmp_path):
    network = Auxiliary(4, 3)
    with pytest.raises(InvalidInputError, match="in training mode, the network return"):
        study(network, tmp_path)
    rows = study(network, tmp_path, replace(SETTINGS, controls=None)).run()
    assert [row["method"] for row in rows] == ["base", "default"]


def test_a_frozen_network_is_studied_as_a_whole(tmp_path):
    network = Remembers().requires_grad_(False)
    rows = study(network, tmp_path).run()
    assert len(rows) == 4
    path = tmp_path / "gradnets/seed-0/default.safetensors"
    predictor = GradNetPredictor.load(path, network.eval())
    assert set(predictor.layout.names) == {"head", "body.0", "body.1"}


@pytest.mark.parametrize(
    ("count", "batch"), [(10, 8), (40, 8), (200, 18), (2000, 64)], ids=str
)
def test_batches_and_steps_suit_small_data(count, batch, tmp_path):
    made = study(
        nn.Linear(4, 3),
        tmp_path,
        NetworkStudySettings(max_epochs=20),
        parts={**PARTS, "train": part(count, 0)},
    )
    training = made.recipes["default"].training
    samples = len(made.data.samples.train)
    assert training.batch_size == min(batch, samples)
    assert training.steps * training.batch_size == pytest.approx(20 * samples, rel=0.03)
    assert 5 <= training.steps / training.evaluate_every <= 10


@pytest.mark.parametrize(
    ("count", "epochs"), [(50, 30), (2000, 12_000 / 1800), (40_000, 1200 * 64 / 36_000)]
)
def test_small_data_are_passed_more_often_than_large_ones(count, epochs, tmp_path):
    parts = {**PARTS, "train": part(count, 0)}
    settings = NetworkStudySettings(controls=None)
    made = study(nn.Linear(4, 3), tmp_path, settings, parts=parts)
    training = made.recipes["default"].training
    seen = training.steps * training.batch_size / len(made.data.samples.train)
    assert seen == pytest.approx(epochs, rel=0.03)


def test_what_cannot_be_copied_or_differentiated_is_refused():
    network = nn.Linear(4, 3)
    network.lock = (number for number in range(3))
    with pytest.raises(InvalidInputError, match="cannot be copied"):
        copy_of(network)
    by_batch = nn.BatchNorm1d(4, track_running_stats=False)
    with pytest.raises(InvalidInputError, match="keeps no running statistics"):
        copy_of(by_batch)
