"""Files of grown networks: their weights and their architecture."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gradnet.checkpoints.bounded_build import build_from_file
from gradnet.checkpoints.exact_weights import load_exactly
from gradnet.checkpoints.tensor_file import load_with_header, save_with_header
from gradnet.core.field_types import mistyped
from gradnet.core.reproducibility import make_generator, versions
from gradnet.core.settings import to_plain
from gradnet.errors import DamagedFileError, InvalidInputError
from gradnet.growth import GROWTH
from gradnet.growth.architecture import build_architecture, describe_architecture
from gradnet.growth.grown_header import (
    FORMAT,
    check_header,
    check_model,
    check_origin,
    make_method,
)
from gradnet.growth.method import GrowthMethod
from gradnet.growth.methods.named_network import NamedNetwork
from gradnet.growth.outcome import Growth
from gradnet.growth.replay import PROBE_SIZE, replay

logger = logging.getLogger("gradnet")


@dataclass(frozen=True)
class GrownNetwork:
    """A network from a file of :func:`save_grown`.

    Attributes:
        model: in evaluation mode.
        header: the architecture, the growth method, its settings and the data.
    """

    model: nn.Module
    header: Mapping[str, Any]

    def check_compatible(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        problem: Mapping[str, Any] | None = None,
    ) -> None:
        """Check that another run on a problem can start from this network.

        Args:
            input_shape: ``(channels, height, width)``.
            num_classes: ``K``.
            problem: what identifies data, split and augmentation.

        Raises:
            InvalidInputError: images or classes differ in shape or number; or the data
                are the same with another split, so that some validation samples of this
                problem were training samples of the network.
        """
        shape, classes = self.header["input_shape"], self.header["num_classes"]
        if list(input_shape) != shape or num_classes != classes:
            raise InvalidInputError(
                f"the grown network is for images {tuple(shape)} of {classes} classes, "
                f"and these are {tuple(input_shape)} of {num_classes}; give one that "
                "was grown on such images"
            )
        before, now = self.header.get("problem") or {}, problem or {}
        differs = {n for n, value in before.items() if now.get(n, value) != value}
        if "split_fingerprint" in differs and "data_fingerprint" not in differs:
            raise InvalidInputError(
                "the network to start from was trained on another split of these "
                "images, so that it has seen some of the validation images; give the "
                "--split that it was trained with"
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
    """Write a grown network as safetensors, atomically.

    The header has the architecture, so that reading it repeats no edit. For a network
    with layers that are not in the table of :mod:`gradnet.growth.architecture`, it has
    the edits instead, and the reader has to name the model.

    Args:
        path: of the file.
        growth: of :func:`gradnet.growth.run.grow`.
        method: the growth method.
        seed: of the run.
        input_shape: ``(channels, height, width)`` of the network's inputs.
        num_classes: ``K``.
        start: the network that the run started from; None for the method's initial one.
        problem: what identifies data, split and augmentation, in plain values.

    Returns:
        The path.

    Raises:
        InvalidInputError: the method is not in :data:`gradnet.growth.GROWTH`.
    """
    history = growth.history
    header = {
        **make_header(growth.model, method, seed, input_shape, num_classes),
        "stage": history.stage,
        "choices": [edit["choice"] for edit in history.edits],
        "start": start and start.header,
        "problem": problem,
        "versions": versions(),
    }
    return save_with_header(path, growth.model.state_dict(), FORMAT.stamp(header))


def make_header(
    model: nn.Module,
    method: GrowthMethod,
    seed: int,
    input_shape: tuple[int, ...],
    num_classes: int,
) -> dict[str, Any]:
    """The header of a network before its first edit; see :func:`save_grown`.

    Raises:
        InvalidInputError: the method is not in :data:`gradnet.growth.GROWTH`.
    """
    names = {kind: name for name, kind in GROWTH.items()}
    if type(method) not in names:
        raise InvalidInputError(
            f"{type(method).__name__} is not in GROWTH, so a file could not name it; "
            "call register_growth_method"
        )
    return {
        "architecture": _architecture_of(model),
        "growth_method": names[type(method)],
        "settings": to_plain(method),
        "stage": 0,
        "choices": [],
        "seed": seed,
        "input_shape": list(input_shape),
        "num_classes": num_classes,
    }


def load_grown(path: str | Path, model: str | None = None) -> nn.Module:
    """Read a grown network.

    Args:
        path: of the file.
        model: the network that it grew from, as a check. Its import path has to be
            given when that is not one of :data:`gradnet.models.MODELS`: a file alone
            never decides which code runs.

    Returns:
        The network, in evaluation mode.

    Raises:
        DamagedFileError: the file is missing, damaged, or holds no grown network.
        InvalidInputError: it grew from another network than ``model``, or from one of
            the user's own and none is given.
    """
    return read_grown(path, model).model


def read_grown(path: str | Path, model: str | None = None) -> GrownNetwork:
    """Read a grown network with its header, for another run to start from.

    Args:
        path: of the file.
        model: as for :func:`load_grown`.

    Returns:
        The network and the header.

    Raises:
        DamagedFileError: as for :func:`load_grown`.
        InvalidInputError: as for :func:`load_grown`.
    """
    stored, tensors = load_with_header(path)
    header = FORMAT.read(stored, str(path))
    check_header(header, str(path))
    check_origin(header, model)
    # Masks and buffers that are not saved are no larger than the saved tensors.
    elements = 3 * sum(tensor.numel() for tensor in tensors.values())

    def build() -> nn.Module:
        network = _network_of(header, model, elements)
        load_exactly(network, tensors, str(path))
        if header.get("architecture") is not None:
            _check_forward(network.eval(), header)
        return network

    network = build_from_file(build, tensors.values(), str(path), "grown network")
    return GrownNetwork(network.eval(), header)


@torch.no_grad()
def _check_forward(network: nn.Module, header: Mapping[str, Any]) -> None:
    """Run a described network once: attributes of layers have no types to check."""
    logits = network(torch.zeros(1, *header["input_shape"]))
    if logits.shape != (1, header["num_classes"]):
        raise ValueError(f"its logits have shape {tuple(logits.shape)}")


def _architecture_of(model: nn.Module) -> dict[str, Any] | None:
    """The description of the architecture; None if a layer cannot be described."""
    try:
        return describe_architecture(model)
    except InvalidInputError as error:
        logger.info("%s", error)
        return None


def _network_of(
    header: Mapping[str, Any], model: str | None, elements: int | None = None
) -> nn.Module:
    """The network of a header, with the right shapes and arbitrary weights."""
    if header.get("architecture") is not None:
        return build_architecture(header["architecture"], elements)
    method = make_method(header["growth_method"], header["settings"])
    if fault := mistyped(method, type(method)):
        raise DamagedFileError(f"it grew with settings of wrong types: {fault}")
    if isinstance(method, NamedNetwork):
        check_model(method.model, model)
        # Its weights come from the file.
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
        start=_network_of(before, model) if before else None,
    )
