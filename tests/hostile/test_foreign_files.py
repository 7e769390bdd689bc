"""Weights, arrays, images and exported networks that are hostile or damaged."""

from collections.abc import Callable
from pathlib import Path

import hostile_foreign
import pytest
import torch
from hostile_checks import faults_of
from hostile_files import base_network

from gradnet.checkpoints.exported import load_exported
from gradnet.checkpoints.weights import load_weights
from gradnet.data.datasets import load_data
from gradnet.models import build_model

# Of the fields of an exported network, of which each takes half a second.
FEW, MANY = 1500, 60


def read_weights(path: Path) -> object:
    model = build_model("mlp", in_channels=1, image_size=4, num_classes=3, hidden=[5])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    try:
        load_weights(path, model)
    except ValueError:
        # A refusal leaves the model as it was.
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, before[name])
        raise
    return model


READERS: dict[str, Callable[[Path], object]] = {
    "weights": read_weights,
    "data": lambda path: load_data(str(path)),
    "exported": load_exported,
}


def test_whole_files_are_read(tmp_path: Path) -> None:
    whole = tmp_path / "a.pt"
    whole.write_bytes(hostile_foreign.torch_bytes(base_network().state_dict()))
    read_weights(whole)
    (tmp_path / "a.npz").write_bytes(hostile_foreign.npz_bytes())
    load_data(str(tmp_path / "a.npz"))
    image = hostile_foreign.image_bytes("PNG")
    load_data(str(hostile_foreign.in_folder("whole", image).write(tmp_path)))
    (tmp_path / "a.pt2").write_bytes(hostile_foreign.exported())
    load_exported(tmp_path / "a.pt2")


@pytest.mark.filterwarnings("ignore")
def test_hostile_files_are_refused_in_one_line(tmp_path: Path) -> None:
    files = list(hostile_foreign.all_foreign_files())
    assert len({str(file) for file in files}) >= 300
    assert not (faults := faults_of(files, tmp_path, READERS)), "\n".join(faults)
    assert not hostile_foreign.TRAP.exists()


@pytest.mark.parametrize(
    "stride", [FEW, pytest.param(MANY, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_hostile_exports_are_refused_in_one_line(tmp_path: Path, stride: int) -> None:
    files = list(hostile_foreign.exported_files(stride))
    assert not (faults := faults_of(files, tmp_path, READERS)), "\n".join(faults)
