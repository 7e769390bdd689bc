"""Grown networks in files: their weights, and the edits that led to their shapes."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gradnet.checkpoints.tensor_file import (
    load_exactly,
    load_with_header,
    save_with_header,
)
from gradnet.core.reproducibility import make_generator, versions
from gradnet.errors import GradnetError
from gradnet.growth import GROWTH
from gradnet.growth.method import GrowthMethod, Schedule
from gradnet.growth.methods.named_network import NamedNetwork
from gradnet.growth.replay import PROBE_SIZE, replay
from gradnet.growth.run import Growth
from gradnet.training.loop import TrainingSettings

logger = logging.getLogger("gradnet")


@dataclass(frozen=True)
class GrownNetwork:
    """A network from a file of :func:`save_grown`.

    Attributes:
        model: in evaluation mode.
        header: all that its shapes follow from.
    """

    model: nn.Module
    header: Mapping[str, Any]

    def check_compatible(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        problem: Mapping[str, Any] | None = None,
    ) -> None:
        """Refuse images that the network was not made for, or that it was trained on.

        Args:
            input_shape: ``(channels, height, width)``.
            num_classes: ``K``.
            problem: what identifies data, split and augmentation.

        Raises:
            GradnetError: images or classes are of another shape or number; or the data
                are the same and split otherwise, so that what is validation here was
                training there.
        """
        shape, classes = self.header["input_shape"], self.header["num_classes"]
        if list(input_shape) != shape or num_classes != classes:
            raise GradnetError(
                f"the grown network is for images {tuple(shape)} of {classes} classes, "
                f"and these are {tuple(input_shape)} of {num_classes}; give one that "
                "grew on such images"
            )
        before, now = self.header.get("problem") or {}, problem or {}
        differs = {n for n, value in before.items() if now.get(n, value) != value}
        if "split_fingerprint" in differs and "data_fingerprint" not in differs:
            raise GradnetError(
                "the network to start from was trained on another split of these "
                "images: some of the validation part it has seen; give the --split "
                "that it was trained with"
            )
        if "augmentation" in differs:
            logger.warning("the network to start from had another augmentation")


def save_grown(
    path: str | Path,
    growth: Growth,
    method: GrowthMethod,
    seed: int,
    input_shape: tuple[int, ...],
    num_classes: int,
    start: GrownNetwork | None = None,
    problem: Mapping[str, Any] | None = None,
) -> Path:
    """Write a grown network as safetensors, whole or not at all.

    Args:
        path: of the file.
        growth: what :func:`gradnet.growth.run.grow` returned.
        method: that it grew by.
        seed: of the run.
        input_shape: ``(channels, height, width)`` as the network sees it.
        num_classes: ``K``.
        start: what the run began with, if not with the method's first network.
        problem: what identifies data, split and augmentation, in plain values.

    Raises:
        GradnetError: the method is none of :data:`gradnet.growth.GROWTH`.
    """
    names = {kind: name for name, kind in GROWTH.items()}
    if type(method) not in names:
        raise GradnetError(
            f"{type(method).__name__} is not in GROWTH, so a file could not name it"
        )
    header = {
        "growth_method": names[type(method)],
        "settings": asdict(method),
        "stage": growth.history.stage,
        "choices": [edit["choice"] for edit in growth.history.edits],
        "seed": seed,
        "input_shape": list(input_shape),
        "num_classes": num_classes,
        "start": start and start.header,
        "problem": problem,
        "versions": versions(),
    }
    return save_with_header(path, growth.model.state_dict(), header)


def load_grown(path: str | Path) -> nn.Module:
    """Read a grown network: its edits are made again, for the shapes alone.

    Returns:
        The network, in evaluation mode.

    Raises:
        GradnetError: the file is missing, damaged, or holds no grown network.
    """
    return read_grown(path).model


def read_grown(path: str | Path) -> GrownNetwork:
    """Read a grown network for another run to begin with.

    Raises:
        GradnetError: the file is missing, damaged, or holds no grown network.
    """
    header, tensors = load_with_header(path)
    try:
        model = _network_of(header)
    except (KeyError, TypeError) as error:
        raise GradnetError(f"{path} holds no grown network: {error!r}") from None
    load_exactly(model, tensors, str(path))
    return GrownNetwork(model.eval(), header)


def _network_of(header: Mapping[str, Any]) -> nn.Module:
    """The shapes, with weights that do not count."""
    method = make_method(header["growth_method"], header["settings"])
    if isinstance(method, NamedNetwork):  # its weights come from the file
        method = replace(method, checkpoint=None)
    shape, seed = header["input_shape"], header["seed"]
    probe = torch.randn(PROBE_SIZE, *shape, generator=make_generator("probe", seed))
    before = header.get("start")
    return replay(
        method,
        seed,
        header["stage"],
        probe,
        header["num_classes"],
        header["choices"],
        start=_network_of(before) if before else None,
    )


def make_method(name: str, settings: Mapping[str, Any]) -> GrowthMethod:
    """A growth method from its name and its plain settings.

    Raises:
        GradnetError: there is none of that name.
        TypeError: it does not take these settings.
    """
    if name not in GROWTH:
        raise GradnetError(f"no growth method {name!r}; there are: {', '.join(GROWTH)}")
    fields = dict(settings)
    fields["training"] = TrainingSettings(**fields["training"])
    fields["growth"] = Schedule(**fields["growth"])
    return GROWTH[name](**fields)
