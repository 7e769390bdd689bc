"""A problem to work on: a data set on its device, its splits and its augmentation."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from gradnet.core.reproducibility import resolve_device
from gradnet.data.augmentation import Augmentation
from gradnet.data.datasets import ImageData, load_data
from gradnet.data.splits import Splits, make_splits
from gradnet.errors import GradnetError


@dataclass(frozen=True)
class SplitSettings:
    """How the training set is divided.

    Attributes:
        seed: of the shuffle; it is not the seed of a run, so that runs share a split.
        validation_fraction: part of each half that is held out.
    """

    seed: int = 0
    validation_fraction: float = 0.1


@dataclass(frozen=True)
class AugmentationSettings:
    """What to change in the default augmentation; None keeps the default.

    Attributes:
        crop: side of the square crop, in pixels; 0 keeps the whole image.
        flip: mirror half of the training images left to right.
        contrast: lowest and highest training contrast factor; an empty list for none.
        whiten: subtract an image's mean and divide by its standard deviation.
    """

    crop: int | None = None
    flip: bool | None = None
    contrast: list[float] | None = None
    whiten: bool | None = None

    def make(self, image_shape: Sequence[int]) -> Augmentation:
        """The default for these images, changed as asked.

        Raises:
            GradnetError: the crop does not fit, or the contrast is no range.
        """
        fields = asdict(Augmentation.for_images(image_shape))
        fields |= {k: v for k, v in asdict(self).items() if v is not None}
        fields["crop"] = fields["crop"] or None
        fields["contrast"] = contrast = tuple(fields["contrast"] or ()) or None
        if contrast and (len(contrast) != 2 or contrast[0] > contrast[1]):
            raise GradnetError(
                f"contrast {list(contrast)} is no range: give the lowest and highest "
                "factor, or [] for none"
            )
        augmentation = Augmentation(**fields)
        augmentation.output_shape(image_shape)
        return augmentation


@dataclass(frozen=True)
class ProblemSettings:
    """Where images come from and how they are used.

    Attributes:
        data: digits (embedded), mnist, fashion-mnist, cifar10, cifar100, the path of an
            .npz with x_train, y_train, x_test, y_test, or of a folder with one folder
            of images a class.
        root: folder of the files that torchvision downloads.
        download: fetch what is missing.
        device: cpu, cuda, or auto.
        split: how the training set is divided.
        augmentation: changes to the default augmentation.
    """

    data: str = "digits"
    root: str = "data"
    download: bool = False
    device: str = "auto"
    split: SplitSettings = field(default_factory=SplitSettings)
    augmentation: AugmentationSettings = field(default_factory=AugmentationSettings)


class Transform(Protocol):
    """What happens to inputs before the network sees them; an Augmentation is one."""

    def train(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Prepared for training, with draws from the generator."""

    def evaluate(self, images: Tensor) -> Tensor:
        """Prepared for evaluation, the same every time."""


@dataclass(frozen=True)
class Samples:
    """Images and labels, which of them train and which validate, and how they are cut.

    Attributes:
        images: all of them, as ``augmentation`` takes them; of data sets uint8 ``(N,
            channels, H, W)``.
        labels: ``(N,)``.
        train: indices for training.
        validation: indices for stopping and choosing.
        augmentation: random in training, centre crops in evaluation.
        num_classes: ``K``.
    """

    images: Tensor
    labels: Tensor
    train: Tensor
    validation: Tensor
    augmentation: Transform
    num_classes: int


@dataclass(frozen=True)
class Problem:
    """Images, splits and augmentation; made by :func:`make_problem`."""

    data: ImageData
    splits: Splits
    augmentation: Augmentation

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """``(channels, height, width)`` as the network sees it."""
        return self.augmentation.output_shape(self.data.image_shape)

    @property
    def base_half(self) -> Samples:
        """What the base network is trained on."""
        return self._samples(self.splits.base_train, self.splits.base_validation)

    @property
    def gradnet_half(self) -> Samples:
        """What GradNet and the controls are trained on; the base has not seen it."""
        return self._samples(self.splits.gradnet_train, self.splits.gradnet_validation)

    @property
    def all_training(self) -> Samples:
        """Both halves, for what is not trained in two steps."""
        splits = self.splits
        return self._samples(
            torch.cat([splits.base_train, splits.gradnet_train]),
            torch.cat([splits.base_validation, splits.gradnet_validation]),
        )

    @property
    def test(self) -> Samples:
        """The test set, as what is evaluated on; nothing trains on it."""
        images, labels = self.data.x_test, self.data.y_test
        return Samples(
            images,
            labels,
            train=torch.empty(0, dtype=torch.long),
            validation=torch.arange(len(images)),
            augmentation=self.augmentation,
            num_classes=self.data.num_classes,
        )

    @property
    def identity(self) -> dict[str, Any]:
        """What results on this problem depend on."""
        return {
            "data_fingerprint": self.data.fingerprint,
            "split_fingerprint": self.splits.fingerprint,
            "augmentation": asdict(self.augmentation),
        }

    def _samples(self, train: Tensor, validation: Tensor) -> Samples:
        return Samples(
            self.data.x_train,
            self.data.y_train,
            train,
            validation,
            self.augmentation,
            self.data.num_classes,
        )


def make_problem(settings: ProblemSettings) -> Problem:
    """Load the data, move it to the device and divide it.

    Raises:
        GradnetError: see :func:`gradnet.data.datasets.load_data` and
            :func:`gradnet.data.splits.make_splits`.
    """
    device = resolve_device(settings.device)
    data = load_data(settings.data, settings.root, settings.download).to(device)
    return Problem(
        data,
        make_splits(
            len(data.x_train), settings.split.seed, settings.split.validation_fraction
        ),
        settings.augmentation.make(data.image_shape),
    )
