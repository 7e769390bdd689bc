"""Files of grown networks: their weights and their architecture."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gradnet.checkpoints.tensor_file import (
    load_exactly,
    load_with_header,
    save_with_header,
)
from gradnet.core.formats import Format, rename_limits
from gradnet.core.reproducibility import make_generator, versions
from gradnet.core.settings import to_plain
from gradnet.errors import DamagedFileError, InvalidInputError
from gradnet.growth import GROWTH
from gradnet.growth.architecture import build_architecture, describe_architecture
from gradnet.growth.method import GrowthMethod, Schedule
from gradnet.growth.methods.named_network import NamedNetwork
from gradnet.growth.outcome import Growth
from gradnet.growth.replay import PROBE_SIZE, replay
from gradnet.models import MODELS
from gradnet.training.loop import TrainingSettings

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
    names = {kind: name for name, kind in GROWTH.items()}
    if type(method) not in names:
        raise InvalidInputError(
            f"{type(method).__name__} is not in GROWTH, so a file could not name it; "
            "call register_growth_method"
        )
    header = {
        "architecture": _architecture_of(growth.model),
        "growth_method": names[type(method)],
        "settings": to_plain(method),
        "stage": growth.history.stage,
        "choices": [edit["choice"] for edit in growth.history.edits],
        "seed": seed,
        "input_shape": list(input_shape),
        "num_classes": num_classes,
        "start": start and start.header,
        "problem": problem,
        "versions": versions(),
    }
    return save_with_header(path, growth.model.state_dict(), FORMAT.stamp(header))


def load_grown(path: str | Path, model: str | None = None) -> nn.Module:
    """Read a grown network.

    Args:
        path: of the file.
        model: the import path of the network that it was grown from, required if that
            is not one of :data:`gradnet.models.MODELS`: a file alone never decides
            which code runs.

    Returns:
        The network, in evaluation mode.

    Raises:
        DamagedFileError: the file is missing, damaged, or not of a grown network.
        InvalidInputError: it was grown from another network than those of gradnet, and
            ``model`` is not given or is a different one.
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
    try:
        # Masks and buffers that are not saved are no larger than the saved tensors.
        elements = 3 * sum(tensor.numel() for tensor in tensors.values())
        network = _network_of(header, model, elements)
    except (KeyError, TypeError, AttributeError) as error:
        raise DamagedFileError(
            f"{path} is not a file of a grown network: {error!r}"
        ) from None
    load_exactly(network, tensors, str(path))
    return GrownNetwork(network.eval(), header)


def _upgrade_0(header: dict[str, Any]) -> dict[str, Any]:
    """Format 1 has the architecture, and other names of limits in the settings.

    A network of format 0 is built by replaying its edits.
    """
    return {**rename_limits(header), "architecture": None}


FORMAT = Format("grown network", (_upgrade_0,))


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
    if isinstance(method, NamedNetwork):
        _check_model(method.model, model)
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


def _check_model(named: str, given: str | None) -> None:
    """Check that the user named the model, unless it is one of gradnet."""
    if named in MODELS or named == given:
        return
    if given is None:
        raise InvalidInputError(
            f"the network was grown from {named!r}, which is not a model of gradnet, "
            "and a file does not decide which code runs; if you trust it, give "
            f"model={named!r}, or --model {named} on the command line"
        )
    raise InvalidInputError(
        f"the network was grown from {named!r}, not from {given!r}; give the former"
    )


def make_method(name: str, settings: Mapping[str, Any]) -> GrowthMethod:
    """A growth method from its name and its plain settings.

    Args:
        name: a key of :data:`gradnet.growth.GROWTH`.
        settings: field -> plain value; of ``training`` and ``growth`` all fields.

    Returns:
        The method.

    Raises:
        InvalidInputError: there is no method of that name.
        TypeError: it does not take these settings.
    """
    if name not in GROWTH:
        raise InvalidInputError(
            f"no growth method {name!r}; there are: {', '.join(GROWTH)}"
        )
    fields = dict(settings)
    fields["training"] = TrainingSettings(**fields["training"])
    fields["growth"] = Schedule(**fields["growth"])
    return GROWTH[name](**fields)
