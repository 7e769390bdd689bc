"""The readers of the package by kind of file, for the tests of hostile files."""

from collections.abc import Callable
from pathlib import Path

import torch
from hostile_files import base_network

from gradnet.checkpoints.exported import load_exported
from gradnet.checkpoints.snapshots import load_snapshot
from gradnet.checkpoints.weights import load_weights
from gradnet.classifier.predictor import GradNetPredictor
from gradnet.data.datasets import load_data
from gradnet.growth.grown_network import load_grown
from gradnet.models import build_model
from gradnet.store.reader import GradientStore


def read_weights(path: Path) -> object:
    """A refusal leaves the model as it was."""
    model = build_model("mlp", in_channels=1, image_size=4, num_classes=3, hidden=[5])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    try:
        load_weights(path, model)
    except ValueError:
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, before[name])
        raise
    return model


READERS: dict[str, Callable[[Path], object]] = {
    "snapshot": load_snapshot,
    "gradnet": lambda path: GradNetPredictor.load(path, base_network()),
    "grown": load_grown,
    "store": lambda path: GradientStore(str(path)).read(),
    "weights": read_weights,
    "data": lambda path: load_data(str(path)),
    "exported": load_exported,
}
