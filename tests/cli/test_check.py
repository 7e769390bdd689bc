"""``gradnet check``: a table, and the first layer that disagrees is named."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.export import Dim, export

from gradnet.cli import check
from gradnet.cli.main import main
from gradnet.gradients.gradcheck import BlockAgreement
from gradnet.models import build_model

MODULE = """\
from torch import nn

def make(num_classes=3, width=2):
    return nn.Sequential(
        nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(),
        nn.Flatten(), nn.Linear(width * 16, num_classes),
    )

def double():
    return make().double()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a module and colour images of the user's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "networks_to_check", raising=False)
    (tmp_path / "networks_to_check.py").write_text(MODULE)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (9, 6, 6, 3), dtype=np.uint8)
    arrays = {"x_train": images, "y_train": np.arange(9) % 3}
    np.savez("data.npz", **arrays, x_test=images, y_test=np.arange(9) % 3)
    return tmp_path


def run(*arguments: str) -> None:
    main(["check", "--device", "cpu", *arguments])


def test_own_network_checkpoint_and_data(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sys.path.insert(0, str(folder))
    import networks_to_check

    torch.save(networks_to_check.make(5, 4).state_dict(), "mine.pt")
    network = ["--checkpoint", "mine.pt", "--model", "networks_to_check:make"]
    given = ["--model-args", '{"num_classes": 5, "width": 4}', "--data", "data.npz"]
    run(*network, *given, "--mean", "0.5", "0.5", "0.5", "--samples", "3")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == ["block", "0", "1", "5"]
    assert lines[-1] == (
        "all 3 layers agree with plain backward passes on 3 samples and 5 labels each, "
        "to 0.0001"
    )


def test_images_take_the_type_of_the_network(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("--model", "networks_to_check:double", "--data", "data.npz")
    assert capsys.readouterr().out.strip().endswith("to 1e-10")


def test_layers_biases_and_many_classes(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ["--model", "networks_to_check:make", "--model_args.num_classes", "300"]
    run(*model, "--data", "data.npz", "--layers", "5", "--biases", "false")
    out = capsys.readouterr().out
    assert "all 1 layers agree" in out and "4 samples and 10 labels" in out
    run(*model, "--data", "data.npz", "--layers", "*", "[05]", "--samples", "1")
    assert "all 3 layers agree" in capsys.readouterr().out


def test_exported_network_without_code(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(108, 3)).eval()
    shapes = ({0: Dim("batch")},)
    program = export(network, (torch.randn(2, 3, 6, 6),), dynamic_shapes=shapes)
    torch.export.save(program, "mine.pt2")
    run("--checkpoint", "mine.pt2", "--data", "data.npz")
    assert "all 1 layers agree" in capsys.readouterr().out


def test_snapshot_of_ours_needs_nothing_more(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(build_model("mlp", hidden=[4]).state_dict(), "mlp.pt")
    given = ["--weights", "mlp.pt", "--model", "mlp", "--hidden", "4"]
    main(["import-weights", *given, "--out", "mlp.safetensors"])
    run("--checkpoint", "mlp.safetensors")
    assert "all 2 layers agree" in capsys.readouterr().out


def test_the_first_layer_that_disagrees_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def compare(*_: Any) -> list[BlockAgreement]:
        errors = {"a": 1e-5, "b": 3e-3, "c": 2.0}
        return [BlockAgreement(n, e, 1.0, 1.0, "func") for n, e in errors.items()]

    monkeypatch.setattr(check, "compare_engines", compare)
    given = ["--model", "networks_to_check:make", "--data", "data.npz"]
    with pytest.raises(SystemExit) as stop:
        run(*given)
    captured = capsys.readouterr()
    assert stop.value.code == 2 and len(captured.out.splitlines()) == 4
    assert "layer 'b' disagrees with plain backward passes: relative" in captured.err
    assert "error 0.003, tolerance 0.0001 (2 of 3 layers disagree)" in captured.err
    with pytest.raises(SystemExit):
        run(*given, "--tolerance", "1e-6")
    assert "layer 'a' disagrees" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(*given, "--tolerance", "0")
    assert "error 1e-05, tolerance 0 (3 of 3" in capsys.readouterr().err
    run(*given, "--tolerance", "3")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "neither a model nor a checkpoint is given"),
        (["--model", "networks_to_check:make"], "no data set is named"),
        (
            ["--model", "networks_to_check:make", "--data", "digits"],
            "fails on an image of (1, 8, 8) (channels, height, width): Given groups=1",
        ),
        (
            ["--model", "networks_to_check:make", "--data", "data.npz", "--crop", "7"],
            "a crop of 7 does not fit",
        ),
        (["--tolerance", "nan"], "--tolerance is 'nan'; it must be a number >= 0"),
        (
            ["--model", "mlp", "--data", "digits", "--samples", "0"],
            "--samples is 0; it must be >= 1",
        ),
        (
            ["--model", "mlp", "--data", "digits", "--layers", "conv*"],
            "no layer matches 'conv*'",
        ),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    folder: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and "Traceback" not in error
    assert f"gradnet: error: {message}" in error or message in error.splitlines()[-1]
