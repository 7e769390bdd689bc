"""Snapshots: base networks as they were when they first passed an accuracy level.

A snapshot is one safetensors file that says in its header what made it. It is not a
checkpoint to resume from. Networks of other origin are read by ``foreign.py``.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from gradnet.checkpoints.tensor_file import (
    load_exactly,
    load_with_header,
    save_with_header,
)
from gradnet.core.formats import Format
from gradnet.core.reproducibility import versions
from gradnet.data.augmentation import Augmentation
from gradnet.errors import GradnetError
from gradnet.models import build_model

# Format 1 has a kind and a number; the fields are those of format 0.
FORMAT = Format("snapshot", (lambda header: header,))


@dataclass(frozen=True)
class SnapshotInfo:
    """What made a snapshot.

    Attributes:
        model: key of :data:`gradnet.models.MODELS`.
        arguments: of the model's factory.
        data: name of the data set.
        data_fingerprint: of its images and labels.
        split_seed: of the shuffle that made the halves.
        validation_fraction: part of each half that was held out.
        split_fingerprint: of the indices.
        augmentation: the fields of :class:`~gradnet.data.augmentation.Augmentation`.
        level: the accuracy level that was passed.
        step: optimizer steps up to then.
        validation_accuracy: on the held-out part of the base's half.
        seed: of the weights, the order and the augmentation.
        versions: of gradnet, Python, torch and numpy.
        environment: in which it was saved; empty in files of earlier versions. See
            :func:`gradnet.core.reproducibility.environment`.
    """

    model: str
    arguments: Mapping[str, Any]
    data: str
    data_fingerprint: str
    split_seed: int
    validation_fraction: float
    split_fingerprint: str
    augmentation: Mapping[str, Any]
    level: float
    step: int
    validation_accuracy: float
    seed: int
    versions: Mapping[str, str] = field(default_factory=versions)
    environment: Mapping[str, Any] = field(default_factory=dict)

    def make_augmentation(self) -> Augmentation:
        """The augmentation that the network was trained with."""
        fields = dict(self.augmentation)
        if fields.get("contrast") is not None:
            fields["contrast"] = tuple(fields["contrast"])
        return Augmentation(**fields)


@dataclass(frozen=True)
class Snapshot:
    """A base network in evaluation mode, and what made it."""

    model: nn.Module
    info: SnapshotInfo


def snapshot_path(folder: str | Path, level: float) -> Path:
    """Where the snapshot of a level stands in its folder."""
    return Path(folder) / f"level-{level:g}.safetensors"


def save_snapshot(path: str | Path, model: nn.Module, info: SnapshotInfo) -> Path:
    """Write a snapshot atomically."""
    return save_with_header(path, model.state_dict(), FORMAT.stamp(asdict(info)))


def load_snapshot(path: str | Path) -> Snapshot:
    """Read a snapshot and build its network.

    Raises:
        GradnetError: the file is missing, damaged, no snapshot, or does not fit the
            model that it names.
    """
    header, tensors = load_with_header(path)
    try:
        info = SnapshotInfo(**FORMAT.read(header, str(path)))
        model = build_model(info.model, **info.arguments)
    except (TypeError, RuntimeError) as error:
        raise GradnetError(f"{path} is no snapshot: {error}") from None
    load_exactly(model, tensors, str(path))
    return Snapshot(model.eval(), info)


def list_snapshots(folder: str | Path) -> dict[float, Path]:
    """Level -> path of each snapshot in a folder, lowest level first."""
    found = {}
    for path in Path(folder).glob("level-*.safetensors"):
        with suppress(ValueError):  # a file of that form, but of another's naming
            found[float(path.stem.removeprefix("level-"))] = path
    return dict(sorted(found.items()))
