"""Snapshots: base networks as they were when they first passed an accuracy level.

A snapshot is one safetensors file that says in its header what made it. It is not a
checkpoint to resume from. Networks of other origin are read by ``foreign.py``.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from gradnet.augmentation import Augmentation
from gradnet.errors import GradnetError
from gradnet.files import write_atomically
from gradnet.models import build_model
from gradnet.runtime import versions

HEADER = "gradnet"


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
        augmentation: the fields of :class:`~gradnet.augmentation.Augmentation`.
        level: the accuracy level that was passed.
        step: optimizer steps up to then.
        validation_accuracy: on the held-out part of the base's half.
        seed: of the weights, the order and the augmentation.
        versions: of Python, torch and numpy.
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
    """Write a snapshot, whole or not at all."""
    return save_with_header(path, model.state_dict(), asdict(info))


def load_snapshot(path: str | Path) -> Snapshot:
    """Read a snapshot and build its network.

    Raises:
        GradnetError: the file is missing, damaged, no snapshot, or does not fit the
            model that it names.
    """
    header, tensors = load_with_header(path)
    try:
        info = SnapshotInfo(**header)
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


def save_with_header(
    path: str | Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]
) -> Path:
    """Write named tensors as safetensors, with a JSON header of their origin."""
    contents = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    data = safetensors.torch.save(contents, {HEADER: json.dumps(header)})
    return write_atomically(path, lambda file: file.write(data))


def load_with_header(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The header and the tensors that :func:`save_with_header` wrote.

    Raises:
        GradnetError: the file is missing, damaged, or was not written by it.
    """
    if not Path(path).is_file():
        raise GradnetError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise GradnetError(
            f"{path} is no whole safetensors file ({error}); was it copied in full?"
        ) from None
    if HEADER not in metadata:
        raise GradnetError(
            f"{path} was not written by gradnet: its header does not say what it is. "
            "Read weights of your own with gradnet.load_weights(path, model)"
        )
    try:
        header = json.loads(metadata[HEADER])
    except json.JSONDecodeError as error:
        raise GradnetError(f"{path} has a damaged header: {error}") from None
    return header, tensors


def load_exactly(model: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Copy weights into a model that must match them name by name.

    Args:
        model: receives the weights.
        tensors: parameter and buffer name -> value.
        source: where they come from, for the error message.

    Raises:
        GradnetError: keys are missing or left over, shapes differ, or a value is not
            finite; all of them are named, and the model is left as it was.
    """
    expected = model.state_dict()
    faults = []
    if missing := [name for name in expected if name not in tensors]:
        faults.append(f"missing: {', '.join(missing)}")
    if extra := [name for name in tensors if name not in expected]:
        faults.append(f"not in the model: {', '.join(extra)}")
    for name, tensor in tensors.items():
        if name not in expected:
            continue
        if tensor.shape != expected[name].shape:
            faults.append(
                f"{name} has shape {tuple(tensor.shape)}, the model's has "
                f"{tuple(expected[name].shape)}"
            )
        elif not torch.isfinite(tensor).all():
            faults.append(f"{name} has values that are not finite")
    if faults:
        raise GradnetError(f"{source} does not fit the model: {'; '.join(faults)}")
    model.load_state_dict(dict(tensors))
