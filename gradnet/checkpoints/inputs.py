"""Images for a user's own network: which ones, and how they are prepared."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from gradnet.checkpoints.snapshots import SnapshotInfo
from gradnet.core.constraints import PathText, Range
from gradnet.core.validation import Count, Pixels, Positive, Validated
from gradnet.data.augmentation import Augmentation
from gradnet.data.datasets import ImageData, load_data
from gradnet.errors import InvalidInputError


@dataclass(frozen=True, kw_only=True)
class InputSettings(Validated):
    """Which images to use, and how to prepare them for the network.

    Attributes:
        data: digits, mnist, fashion-mnist, cifar10, cifar100, the path of an .npz, or
            of a folder with one folder of images per class; default for a snapshot:
            the data set that it names.
        root: folder of the files that torchvision downloads.
        download: download missing files.
        part: train or test.
        crop: side of the centre crop, in pixels; default: the whole image.
        mean: one number per channel, subtracted from pixel values from 0 to 1.
        std: one number per channel, by which the result is divided.
        whiten: subtract an image's own mean and divide by its own standard deviation.
        limit: use the first so many images; default: all.
    """

    data: PathText | None = None
    root: PathText = "data"
    download: bool = False
    part: Literal["train", "test"] = "train"
    crop: Pixels | None = None
    mean: list[Annotated[float, Range(-1e6, 1e6)]] | None = None
    std: list[Positive] | None = None
    whiten: bool = False
    limit: Count | None = None


@dataclass(frozen=True)
class InputPreparation:
    """Deterministic preparation of a batch of images: crop and normalization."""

    crop: int | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    whiten: bool = False

    def __call__(self, images: Tensor) -> Tensor:
        """Prepare uint8 images ``(N, C, H, W)``: float32 ``(N, C, h, w)``."""
        x = Augmentation(crop=self.crop, whiten=self.whiten).evaluate(images)
        if self.mean:
            x = x - torch.tensor(self.mean, device=x.device)[:, None, None]
        if self.std:
            x = x / torch.tensor(self.std, device=x.device)[:, None, None]
        return x


@dataclass(frozen=True)
class Inputs:
    """Images with their labels, their preparation and a description.

    Attributes:
        images: uint8 ``(N, channels, height, width)``.
        targets: int64 ``(N,)``, the true labels.
        class_names: one per class.
        prepare: maps a batch of images to inputs of the network.
        description: plain values that change when an input of the network does; without
            the name of the data, so that a moved file counts as the same data.
    """

    images: Tensor
    targets: Tensor
    class_names: tuple[str, ...]
    prepare: InputPreparation
    description: dict[str, Any]


def load_inputs(
    settings: InputSettings, snapshot: SnapshotInfo | None = None
) -> Inputs:
    """Load the images that the settings name.

    Args:
        settings: see :class:`InputSettings`.
        snapshot: of the network, if it has one: it determines the preparation and
            the default data set.

    Raises:
        InvalidInputError: no data set is named, the crop or the number of channels does
            not fit, a value is out of range, or a preparation is given in addition to
            that of the snapshot.
        GradnetError: see :func:`gradnet.data.datasets.load_data`.
    """
    data, prepare = load_prepared(settings, snapshot)
    train = settings.part == "train"
    images = (data.x_train if train else data.x_test)[: settings.limit]
    targets = (data.y_train if train else data.y_test)[: settings.limit]
    return Inputs(
        images=images,
        targets=targets,
        class_names=data.class_names,
        prepare=prepare,
        description={
            "data_fingerprint": data.fingerprint,
            "part": settings.part,
            "count": len(images),
            "crop": prepare.crop,
            "mean": list(prepare.mean),
            "std": list(prepare.std),
            "whiten": prepare.whiten,
        },
    )


def load_prepared(
    settings: InputSettings, snapshot: SnapshotInfo | None = None
) -> tuple[ImageData, InputPreparation]:
    """Load all parts of the data that the settings name, and how they are prepared.

    Args:
        settings: see :func:`load_inputs`; ``part`` and ``limit`` are not used.
        snapshot: see :func:`load_inputs`.

    Raises:
        GradnetError: see :func:`load_inputs`.
    """
    name = settings.data or (snapshot and snapshot.data)
    if not name:
        raise InvalidInputError("no data set is named; name one with --data")
    data = load_data(name, settings.root, settings.download)
    prepare = _of_snapshot(settings, snapshot) if snapshot else _of_settings(settings)
    _check_fit(prepare, data.image_shape)
    return data, prepare


def to_network(network: nn.Module, inputs: Inputs, part: slice) -> Tensor:
    """Prepare a slice of the images, in the dtype and on the device of the network."""
    weights = [p for p in network.parameters() if p.is_floating_point()]
    device = weights[0].device if weights else torch.device("cpu")
    x = inputs.prepare(inputs.images[part].to(device))
    return x.to(weights[0].dtype) if weights else x


def _of_snapshot(settings: InputSettings, snapshot: SnapshotInfo) -> InputPreparation:
    names = ("crop", "mean", "std", "whiten")
    given = [f"--{name}" for name in names if asdict(settings)[name]]
    if given:
        raise InvalidInputError(
            "the snapshot determines how its images are prepared; leave out "
            + ", ".join(given)
        )
    augmentation = snapshot.make_augmentation()
    return InputPreparation(crop=augmentation.crop, whiten=augmentation.whiten)


def _of_settings(settings: InputSettings) -> InputPreparation:
    mean, std = tuple(settings.mean or ()), tuple(settings.std or ())
    if settings.whiten and (mean or std):
        raise InvalidInputError(
            "whiten takes each image's own mean and std; give no others"
        )
    return InputPreparation(settings.crop, mean, std, settings.whiten)


def _check_fit(prepare: InputPreparation, image_shape: Sequence[int]) -> None:
    Augmentation(crop=prepare.crop).output_shape(image_shape)
    for name, values in (("mean", prepare.mean), ("std", prepare.std)):
        if len(values) not in (0, image_shape[0]):
            raise InvalidInputError(
                f"{name} has {len(values)} values for images of {image_shape[0]} "
                "channels; give one per channel"
            )
