"""``gradnet study`` and what else takes a network of one's own, from its checkpoint."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from kills import run_killed

from gradnet.checkpoints.snapshots import save_snapshot
from gradnet.cli.main import main
from gradnet.data.problem import ProblemSettings, make_problem
from gradnet.experiments.base_network import describe_snapshot
from gradnet.experiments.results import read_rows
from gradnet.models import build_model

MODULE = """\
from torch import nn

def make(width=4, classes=3):
    return nn.Sequential(
        nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(),
        nn.Flatten(), nn.Linear(width * 16, classes),
    )
"""
NETWORK = ["--checkpoint", "my.pt", "--model", "my_networks:make"]
OWN = [*NETWORK, "--data", "data.npz", "--device", "cpu"]
QUICK = ["--max_epochs", "1", "--rates", "1e-3"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a module, a checkpoint and images of the user's."""
    folder = tmp_path_factory.mktemp("mine")
    (folder / "my_networks.py").write_text(MODULE)
    rng = np.random.default_rng(0)
    labels = np.arange(180) % 3
    images = rng.integers(0, 200, (180, 6, 6, 3), dtype=np.uint8)
    images[..., 0] += (25 * labels).astype(np.uint8)[:, None, None]
    arrays = {"x_train": images[:90], "y_train": labels[:90]}
    arrays |= {"x_test": images[90:], "y_test": labels[90:]}
    np.savez(folder / "data.npz", **arrays)
    scope: dict[str, object] = {}
    exec(MODULE, scope)  # noqa: S102 (the text above)
    torch.manual_seed(0)
    torch.save({"state_dict": scope["make"]().state_dict()}, folder / "my.pt")
    return folder


@pytest.fixture
def folder(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made)
    monkeypatch.setattr(sys, "path", [str(made), *sys.path])
    monkeypatch.delitem(sys.modules, "my_networks", raising=False)
    return made


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and "Traceback" not in error
    return error.splitlines()[-1]


def test_one_command_from_the_checkpoint_to_the_table(folder, capsys):
    normal = ["--mean", "0.4", "0.4", "0.4", "--std", "0.2", "0.2", "0.2"]
    main(["study", *OWN, "--seen", "none", *QUICK, *normal, "--flip"])
    printed = capsys.readouterr().out
    out = folder / "runs" / "study-data"
    assert (out / "table.md").read_text() in printed
    assert f"picture: {Path('runs/study-data/table.png')}" in printed
    rows = read_rows(out)
    methods = ["base", "default", "fine-tuned", "last-layer"]
    assert [row["method"] for row in rows] == methods
    about = json.loads((out / "study.json").read_text())
    assert about["problem"]["preparation"]["mean"] == [0.4] * 3
    assert about["problem"]["augmentation"] == {"flip": True, "shift": 0}
    (out / "table.md").unlink()
    main(["table", str(out)])
    assert (out / "table.md").read_text() in printed
    main(["study", "--config", str(out / "config.yaml"), "--model", NETWORK[3]])
    assert (out / "table.md").read_text() in capsys.readouterr().out
    assert read_rows(out) == rows


def test_what_the_network_has_seen_is_asked_in_one_line(folder, capsys):
    for command in ("study", "fit", "evaluate"):
        error = refused([command, *OWN], capsys)
        assert "--seen train (the train part" in error
        assert "--seen none (none of these images" in error
    error = refused(["study", *OWN, "--seen", "test"], capsys)
    assert "--seen is 'test'; it must be train or none" in error


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--model-args", '{"classes": 5}'], "my.pt"),
        (["--data", "digits"], "fails on an image of (1, 8, 8) (channels, height"),
        (["--mean", "0.5"], "mean has 1 values for images of 3 channels"),
        (["--crop", "9"], "a crop of 9 does not fit images of 6 x 6"),
        (["--part", "test"], "--part"),
        (["--recipes", "base.yaml"], "the table has a row 'base' already"),
        (["--rates", "0"], "--rates[0] is 0"),
    ],
)
def test_misfits_are_told_before_any_work(changes, message, folder, capsys):
    arguments = ["study", *OWN, "--seen", "none", *changes, "--out", "never"]
    assert message in refused(arguments, capsys)
    assert not (folder / "never").exists()


def test_another_number_of_classes_is_refused_before_any_work(folder, capsys):
    model = ["--model", "my_networks:make", "--model-args", '{"classes": 5}']
    arguments = ["study", *model, "--data", "data.npz", "--seen", "none"]
    error = refused([*arguments, "--out", "never"], capsys)
    assert "the network has 5 logits, the data have 3 classes" in error
    assert not (folder / "never").exists()


def test_fit_and_evaluate_take_the_same_network(folder, capsys):
    seen = ["--seen", "train"]
    Path("quick.yaml").write_text("training: {steps: 3, evaluate_every: 3}\n")
    main(["fit", *OWN, *seen, "--recipe", "quick.yaml"])
    assert "my-quick.safetensors" in capsys.readouterr().out
    main(["fit", *OWN, *seen, "--recipe", "quick.yaml"])
    assert "done before" in capsys.readouterr().out
    main(["evaluate", *OWN, *seen, "--gradnet", "my-quick.safetensors"])
    printed = capsys.readouterr().out
    assert printed.count("of 45 test images") == 2 and "GradNet:" in printed
    error = refused(["fit", *OWN, "--seen", "none", "--recipe", "quick.yaml"], capsys)
    assert "my-quick.safetensors was made with other settings" in error


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> str:
    problem = make_problem(ProblemSettings(device="cpu"))
    arguments = {"image_size": 8, "in_channels": 1, "num_classes": 10, "hidden": [4]}
    info = describe_snapshot(problem, "mlp", arguments, 0)
    path = tmp_path_factory.mktemp("snapshot") / "base.safetensors"
    return str(save_snapshot(path, build_model("mlp", **arguments), info))


def test_a_snapshot_stands_first_last_or_by_its_name(snapshot, capsys):
    outputs = []
    for arguments in (
        [snapshot, "--device", "cpu"],
        ["--device", "cpu", snapshot],
        [f"--snapshot={snapshot}", "--download"],
    ):
        main(["evaluate", *arguments])
        outputs.append(capsys.readouterr().out)
    assert len(set(outputs)) == 1 and "of 359 test images" in outputs[0]


def test_a_snapshot_knows_what_it_has_seen(snapshot, capsys):
    error = refused(["evaluate", snapshot, "--seen", "none"], capsys)
    assert "leave out --seen, or the snapshot" in error
    own = ["--checkpoint", snapshot, "--seen"]
    error = refused(["study", *own, "none"], capsys)
    assert "the snapshot was trained on the train part of these images" in error
    main(["evaluate", *own, "train"])
    assert "of 180 test images" in capsys.readouterr().out
    assert "no network is named: give a snapshot, or" in refused(["fit"], capsys)
    error = refused(["fit", snapshot, snapshot], capsys)
    assert "nrecognized arguments" in error


def test_import_weights_names_what_takes_networks_of_ones_own(folder, capsys):
    arguments = ["--weights", "my.pt", "--model", "my_networks:make"]
    error = refused(["import-weights", *arguments], capsys)
    assert "give --checkpoint and --model to gradnet study, fit or evaluate" in error


def test_growth_begins_with_weights_of_ones_own(folder, capsys):
    torch.manual_seed(0)
    model = build_model("mlp", in_channels=3, image_size=6, num_classes=3, hidden=[4])
    torch.save(model.state_dict(), "mlp.pt")
    steps = ["--training.steps", "2", "--training.evaluate_every", "2"]
    given = ["--data", "data.npz", "--model_args", '{"hidden": [4]}', "--out", "grown"]
    wider = ["--wider", '{"linear0": 6}', "--growth.first", "0"]
    main(["grow", "net2wider", *given, *steps, *wider, "--start", "mlp.pt"])
    captured = capsys.readouterr()
    assert "mlp.pt does not say what it was trained on" in captured.err
    assert "| net2wider" in captured.out
    (folder / "grown/table.md").unlink()
    main(["table", "grown"])
    assert "picture: grown/curves.png" in capsys.readouterr().out
    assert (folder / "grown/table.md").exists()


@pytest.mark.slow
def test_a_killed_study_continues_to_the_same_table(folder, monkeypatch, capsys):
    arguments = ["study", *OWN, "--seen", "train", "--max_epochs", "40"]
    arguments += ["--rates", "1e-3", "--recipes", "default"]
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parents[2]}")
    run_killed(
        [*arguments, "--out", "killed"],
        lambda: any((folder / "killed/checkpoints").rglob("default.pt")),
    )
    main([*arguments, "--out", "killed"])
    main([*arguments, "--out", "whole"])
    names = ("method", "test_accuracy", "validation_accuracy", "best_step")
    rows = read_rows(folder / "whole")
    assert len(rows) == 4
    for row, other in zip(read_rows(folder / "killed"), rows, strict=True):
        assert [row.get(n) for n in names] == [other.get(n) for n in names]
