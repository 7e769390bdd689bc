"""Options that several commands share: a network with its images, run folders."""

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from gradnet.checkpoints.inputs import Inputs, InputSettings, load_inputs, to_network
from gradnet.checkpoints.model_loader import load_user_model
from gradnet.checkpoints.network_check import output_of
from gradnet.checkpoints.snapshots import Snapshot, SnapshotInfo, load_snapshot
from gradnet.core.constraints import PathText
from gradnet.core.reproducibility import resolve_device
from gradnet.core.validation import Validated
from gradnet.data.problem import (
    AugmentationSettings,
    Problem,
    ProblemSettings,
    SplitSettings,
    make_problem,
)
from gradnet.errors import GradnetError
from gradnet.experiments.reports import write_report_of
from gradnet.experiments.results import table_lock

logger = logging.getLogger("gradnet")


class Command(Protocol):
    """The options of a command, with its ``run``."""

    def run(self, config: str) -> None:
        """Run the command; ``config`` is the YAML of all its options."""


@dataclass(frozen=True, kw_only=True)
class DataSettings(Validated):
    """Where the data of a snapshot are, or which others to use.

    Attributes:
        data: default: the data set that the snapshot names.
        root: folder of the files that torchvision downloads.
        download: fetch what is missing.
        device: cpu, cuda, or auto.
    """

    data: PathText | None = None
    root: PathText = "data"
    download: bool = False
    device: PathText = "auto"


@dataclass(frozen=True, kw_only=True)
class NetworkSettings(InputSettings):
    """A network of the user's own, and the images that it is given.

    Attributes:
        checkpoint: a snapshot, a .pt2 of torch.export, or the weights of the model:
            .safetensors, or a .pt with a state dict.
        model: package.module:factory, torchvision:resnet18, the path of a .pt2, or
            cnn2018, cnn-small or mlp; not needed where the checkpoint is a snapshot or
            a .pt2.
        model_args: arguments of the factory, as JSON: '{"num_classes": 10}'.
        device: cpu, cuda, or auto.
    """

    checkpoint: PathText | None = None
    model: PathText | None = None
    model_args: dict[str, Any] | None = None
    device: PathText = "auto"


def load_network(settings: NetworkSettings) -> tuple[nn.Module, Inputs]:
    """The network on its device, and its images, which are not moved.

    Raises:
        GradnetError: one of them cannot be loaded, or they do not fit each other.
    """
    network, snapshot = load_model(settings)
    inputs = load_inputs(settings, snapshot)
    output_of(network, to_network(network, inputs, slice(0, 1)))
    return network, inputs


def load_model(settings: NetworkSettings) -> tuple[nn.Module, SnapshotInfo | None]:
    """The network on its device, and what made it where it is a snapshot.

    Raises:
        GradnetError: it cannot be loaded.
    """
    checkpoint, device = settings.checkpoint, resolve_device(settings.device)
    if settings.model is None and checkpoint and checkpoint.endswith(".safetensors"):
        snapshot = load_snapshot(checkpoint)
        return snapshot.model.to(device), snapshot.info
    network = load_user_model(settings.model, settings.model_args, checkpoint)
    return network.to(device), None


def run_folder(data: str, out: str | None) -> Path:
    """The run folder: the one that is named, or one named after the data."""
    if out is not None:
        return Path(out)
    return Path("runs") / re.sub(r"\W+", "-", Path(data).stem)


def print_table(folder: Path) -> None:
    """Rewrite the table and the figure of a run folder, and print the table."""
    with table_lock(folder):
        table, picture = write_report_of(folder)
    print(table)
    print(f"picture: {picture}")


def problem_of(snapshot: Snapshot, settings: DataSettings) -> Problem:
    """The problem that a snapshot was trained on, with its split and augmentation.

    Raises:
        GradnetError: the data cannot be loaded, or do not fit the network.
    """
    info = snapshot.info
    augmentation = info.make_augmentation()
    problem = make_problem(
        ProblemSettings(
            data=settings.data or info.data,
            root=settings.root,
            download=settings.download,
            device=settings.device,
            split=SplitSettings(info.split_seed, info.validation_fraction),
            augmentation=AugmentationSettings(
                crop=augmentation.crop or 0,
                flip=augmentation.flip,
                contrast=list(augmentation.contrast or ()),
                whiten=augmentation.whiten,
            ),
        )
    )
    names = ("in_channels", "image_size", "num_classes")
    *wanted, classes = (info.arguments.get(name, "unstated") for name in names)
    found = problem.input_shape[:2]
    if list(found) != wanted or classes != problem.data.num_classes:
        raise GradnetError(
            f"{problem.data.name} does not fit the snapshot: it takes {wanted[0]} "
            f"channels, {wanted[1]} pixels, {classes} classes; "
            f"the data have {found[0]}, {found[1]} and {problem.data.num_classes}"
        )
    info.check_split(problem.splits, problem.data.fingerprint, "the snapshot")
    if problem.data.fingerprint != info.data_fingerprint:
        logger.warning(
            "the snapshot was trained on other data than these (%s): its training "
            "images may be among those that count as unseen here",
            info.data,
        )
    return problem
