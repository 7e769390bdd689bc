"""Images as a user's own network takes them: which, how cut, how normalized."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gradnet.checkpoints.snapshots import SnapshotInfo
from gradnet.data.augmentation import Augmentation
from gradnet.data.datasets import load_data
from gradnet.errors import GradnetError


@dataclass(frozen=True, kw_only=True)
class InputSettings:
    """Which images a network is given, and how they are prepared.

    Attributes:
        data: digits, mnist, fashion-mnist, cifar10, cifar100, the path of an .npz, or
            of a folder with one folder of images a class; of a snapshot the default is
            the data set that it names.
        root: folder of the files that torchvision downloads.
        download: fetch what is missing.
        part: train or test.
        crop: side of the centre crop, in pixels; default: the whole image.
        mean: one number a channel, subtracted from pixels of the range 0 to 1.
        std: one number a channel, by which they are then divided.
        whiten: subtract an image's own mean and divide by its own standard deviation.
        limit: take so many images, the first ones; default: all.
    """

    data: str | None = None
    root: str = "data"
    download: bool = False
    part: Literal["train", "test"] = "train"
    crop: int | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    whiten: bool = False
    limit: int | None = None


@dataclass(frozen=True)
class InputPreparation:
    """From bytes to what the network sees, the same every time; called with a batch."""

    crop: int | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    whiten: bool = False

    def __call__(self, images: Tensor) -> Tensor:
        """Float32 ``(N, channels, h, w)`` of uint8 images ``(N, channels, H, W)``."""
        x = Augmentation(crop=self.crop, whiten=self.whiten).evaluate(images)
        if self.mean:
            x = x - torch.tensor(self.mean, device=x.device)[:, None, None]
        if self.std:
            x = x / torch.tensor(self.std, device=x.device)[:, None, None]
        return x


@dataclass(frozen=True)
class Inputs:
    """Images, in order, and what there is to know of them.

    Attributes:
        images: uint8 ``(N, channels, height, width)``.
        targets: int64 ``(N,)``, the true labels.
        class_names: one a class.
        prepare: makes of a batch of images what the network sees.
        description: plain values that change when any input to the network does; the
            name of the data is not among them, so that a moved file is the same data.
    """

    images: Tensor
    targets: Tensor
    class_names: tuple[str, ...]
    prepare: InputPreparation
    description: dict[str, Any]


def load_inputs(
    settings: InputSettings, snapshot: SnapshotInfo | None = None
) -> Inputs:
    """Load the images that settings ask for.

    Args:
        settings: see :class:`InputSettings`.
        snapshot: where the network is a snapshot of ours: it says how images are
            prepared, and which they are by default.

    Raises:
        GradnetError: no data set is named or it cannot be had, the crop or the number
            of channels does not fit, a value is out of range, or a preparation is
            asked for beside that of a snapshot.
    """
    name = settings.data or (snapshot and snapshot.data)
    if not name:
        raise GradnetError("no data set is named; name one with --data")
    if settings.limit is not None and settings.limit < 1:
        raise GradnetError(f"limit is {settings.limit}; it must be at least 1")
    if settings.part not in ("train", "test"):
        raise GradnetError(f"no part {settings.part!r}; give train or test")
    data = load_data(name, settings.root, settings.download)
    prepare = _of_snapshot(settings, snapshot) if snapshot else _of_settings(settings)
    _check_fit(prepare, data.image_shape)
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


def to_network(network: nn.Module, inputs: Inputs, part: slice) -> Tensor:
    """Some images as the network takes them: prepared, of its type, on its device."""
    weights = [p for p in network.parameters() if p.is_floating_point()]
    device = weights[0].device if weights else torch.device("cpu")
    x = inputs.prepare(inputs.images[part].to(device))
    return x.to(weights[0].dtype) if weights else x


def _of_snapshot(settings: InputSettings, snapshot: SnapshotInfo) -> InputPreparation:
    names = ("crop", "mean", "std", "whiten")
    given = [f"--{name}" for name in names if asdict(settings)[name]]
    if given:
        raise GradnetError(
            "the snapshot says how its images are prepared; leave out "
            + ", ".join(given)
        )
    augmentation = snapshot.make_augmentation()
    return InputPreparation(crop=augmentation.crop, whiten=augmentation.whiten)


def _of_settings(settings: InputSettings) -> InputPreparation:
    mean, std = tuple(settings.mean or ()), tuple(settings.std or ())
    if settings.whiten and (mean or std):
        raise GradnetError("whiten takes each image's own mean and std; give no others")
    if not all(map(math.isfinite, (*mean, *std))) or any(value <= 0 for value in std):
        raise GradnetError(
            f"mean {list(mean)} and std {list(std)} must be finite, std above 0"
        )
    return InputPreparation(settings.crop, mean, std, settings.whiten)


def _check_fit(prepare: InputPreparation, image_shape: Sequence[int]) -> None:
    Augmentation(crop=prepare.crop).output_shape(image_shape)
    for name, values in (("mean", prepare.mean), ("std", prepare.std)):
        if len(values) not in (0, image_shape[0]):
            raise GradnetError(
                f"{name} has {len(values)} values for images of {image_shape[0]} "
                "channels; give one a channel"
            )
