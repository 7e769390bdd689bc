"""Snapshots: base networks as they were when they first passed an accuracy level.

A snapshot is one safetensors file that says in its header what made it. It is not a
checkpoint to resume from. Networks of other origin are read by ``weights.py``.
"""

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from gradnet.checkpoints.bounded_build import build_from_file
from gradnet.checkpoints.exact_weights import load_exactly
from gradnet.checkpoints.tensor_file import load_with_header, save_with_header
from gradnet.core.field_types import mistyped
from gradnet.core.formats import Format, unchanged
from gradnet.core.reproducibility import versions
from gradnet.core.text import reason_of, shown
from gradnet.data.augmentation import Augmentation
from gradnet.data.splits import Splits
from gradnet.errors import DamagedFileError, InvalidInputError
from gradnet.models import MODELS, build_model

# Format 1 has a kind and a number, format 2 a checksum; the fields are those of 0.
FORMAT = Format("snapshot", (unchanged, unchanged))
# A package's own networks have no argument above this, and some loop up to one.
MAX_ARGUMENT = 1_000_000


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

    def check_split(self, splits: Splits, data_fingerprint: str, source: str) -> None:
        """Refuse a split under which the network has seen what counts as unseen.

        On other data than those it was trained on, nothing is compared.

        Args:
            splits: those that GradNet, the controls or an evaluation would use.
            data_fingerprint: of the data that they divide.
            source: of the snapshot, for the message.

        Raises:
            DamagedFileError: the data are those of the training, the split is not.
        """
        if data_fingerprint != self.data_fingerprint:
            return
        if splits.fingerprint != self.split_fingerprint:
            raise DamagedFileError(
                f"{source} was trained on another split of these images (its "
                f"fingerprint is {shown(self.split_fingerprint)}, that of split_seed "
                f"{splits.seed} and validation_fraction {splits.validation_fraction:g} "
                f"is {splits.fingerprint}): images that the network has seen would "
                "count as unseen; use the snapshot as it was written"
            )


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
        DamagedFileError: the file is missing, damaged, no snapshot, or does not fit the
            model that it names.
        InvalidInputError: there is no such model, or it takes no such arguments.
    """
    header, tensors = load_with_header(path)
    info = _info_of(FORMAT.read(header, str(path)), str(path))

    def build() -> nn.Module:
        try:
            return build_model(info.model, **info.arguments)
        except InvalidInputError as error:
            raise InvalidInputError(f"{path}: {error}") from None

    model = build_from_file(build, tensors.values(), str(path), "snapshot")
    load_exactly(model, tensors, str(path))
    return Snapshot(model.eval(), info)


def _info_of(header: Mapping[str, Any], source: str) -> SnapshotInfo:
    """The header's fields, of the right types and in their ranges."""
    try:
        info = SnapshotInfo(**header)
        fault = mistyped(info, SnapshotInfo)
        fault = fault or mistyped(info.make_augmentation(), Augmentation)
    except (TypeError, ValueError) as error:
        fault = reason_of(error).removeprefix("SnapshotInfo.__init__() ")
    if fault is None:
        fault = _out_of_range(info)
    if fault is not None:
        raise DamagedFileError(f"{source} is no snapshot: {fault}")
    return info


def _out_of_range(info: SnapshotInfo) -> str | None:
    ranges = {
        "validation_fraction": 0 < info.validation_fraction < 1,
        "level": 0 <= info.level <= 1,
        "validation_accuracy": 0 <= info.validation_accuracy <= 1,
        "step": info.step >= 0,
    }
    for name, is_inside in ranges.items():
        if not is_inside:
            return f"{name} is {shown(getattr(info, name))}, out of its range"
    augmentation = info.make_augmentation()
    low, high = augmentation.contrast or (0, 0)
    if not 0 <= low <= high < math.inf or (augmentation.crop or 1) < 1:
        return f"augmentation is {shown(dict(info.augmentation))}, out of its range"
    factory = MODELS.find(info.model)
    if getattr(factory, "__module__", "").startswith("gradnet."):
        for name, value in info.arguments.items():
            for number in value if isinstance(value, list) else [value]:
                if isinstance(number, int | float) and not abs(number) <= MAX_ARGUMENT:
                    return f"{name} is {shown(value)}, more than any network has"
    return None


def list_snapshots(folder: str | Path) -> dict[float, Path]:
    """Level -> path of each snapshot in a folder, lowest level first."""
    found = {}
    for path in Path(folder).glob("level-*.safetensors"):
        with suppress(ValueError):  # a file of that form, but of another's naming
            found[float(path.stem.removeprefix("level-"))] = path
    return dict(sorted(found.items()))
