"""Options and loading of a network of the user's own, with what it has not seen."""

from dataclasses import dataclass, field, fields
from typing import Annotated, Literal

from torch import nn

from gradnet.checkpoints.fingerprint import layers_fingerprint
from gradnet.checkpoints.inputs import load_prepared
from gradnet.cli.options import NetworkSettings, load_model
from gradnet.core.constraints import Range
from gradnet.data.network_inputs import NetworkInputs
from gradnet.data.problem import SplitSettings
from gradnet.data.unseen import ASK, DataParts, Seen, UnseenData, split_unseen
from gradnet.errors import InvalidInputError
from gradnet.experiments.network_study import check_fit, copy_of, describe_inputs
from gradnet.experiments.study_network import device_of, dtype_of


@dataclass(frozen=True, kw_only=True)
class OwnNetworkSettings(NetworkSettings):
    """A network of the user's own, its images, and which of them it has seen.

    Attributes:
        seen: which images the network has been trained on. train: the train part;
            GradNet and the controls then take a half of the test part. none: none of
            these images; they take the train part.
        split: seed and validation_fraction of what GradNet and the controls take.
        flip: mirror half of the training images left to right.
        shift: move training images at random, by up to so many pixels.
    """

    part: Literal["train", "test"] = field(default="train", init=False)
    limit: None = field(default=None, init=False)
    seen: Seen | None = None
    split: SplitSettings = field(default_factory=SplitSettings)
    flip: bool = False
    shift: Annotated[int, Range(0, 2**16)] = 0


@dataclass(frozen=True)
class OwnNetwork:
    """A network of the user's own, and samples that it has not seen.

    Attributes:
        network: in evaluation mode, on its device.
        seen: what was said of it.
        data: on the same device; it fits the network.
    """

    network: nn.Module
    seen: Seen
    data: UnseenData

    @property
    def identity(self) -> dict[str, object]:
        """Plain values that identify the data and the layers of the network."""
        about = {**self.data.identity, **describe_inputs(self.data)}
        return {**about, "seen": self.seen, "layers": layers_fingerprint(self.network)}


def load_own_network(settings: OwnNetworkSettings) -> OwnNetwork:
    """Load a network and its data, and check that they fit each other.

    Raises:
        InvalidInputError: it is not said what the network has seen, or that is wrong;
            or the data do not fit the network.
        GradnetError: one of them cannot be loaded.
    """
    if settings.seen is None:
        raise InvalidInputError(ASK)
    if settings.data is None and settings.model is not None:
        raise InvalidInputError("no data set is named; name one with --data")
    network, snapshot = load_model(settings)
    data, prepare = load_prepared(settings, snapshot)
    if settings.seen == "none" and snapshot is not None:
        if snapshot.data_fingerprint == data.fingerprint:
            raise InvalidInputError(
                "--seen is none, and the snapshot was trained on the train part of "
                "these images; give --seen train, or use gradnet fit SNAPSHOT"
            )
    inputs = NetworkInputs(prepare, dtype_of(network), settings.flip, settings.shift)
    parts = DataParts.of_data(data).to(device_of(network))
    split = settings.split
    unseen = split_unseen(
        parts, settings.seen, inputs, split.seed, split.validation_fraction
    )
    network = copy_of(network)
    check_fit(network, unseen)
    return OwnNetwork(network, settings.seen, unseen)


def own_options(settings: OwnNetworkSettings) -> list[str]:
    """The options of a network of one's own that are given, as they are typed."""
    default = OwnNetworkSettings()
    shared = {"data", "root", "download", "device"}
    return [
        f"--{one.name}"
        for one in fields(OwnNetworkSettings)
        if one.name not in shared
        and getattr(settings, one.name) != getattr(default, one.name)
    ]
