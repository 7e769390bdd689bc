"""A problem to work on: a data set on its device, its splits and its augmentation."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Protocol

import torch
from torch import Tensor

from gradnet.core.constraints import Length, PathText, Range
from gradnet.core.reproducibility import resolve_device
from gradnet.core.validation import Fraction, Seed, Validated
from gradnet.data.augmentation import Augmentation, ContrastFactor
from gradnet.data.datasets import ImageData, load_data
from gradnet.data.splits import Splits, make_splits
from gradnet.errors import InvalidInputError


@dataclass(frozen=True)
class SplitSettings(Validated):
    """How the training set is split.

    Attributes:
        seed: of the shuffle; not the seed of a run, so that all runs share a split.
        validation_fraction: fraction of each half that is held out.
    """

    seed: Seed = 0
    validation_fraction: Fraction = 0.1


@dataclass(frozen=True)
class AugmentationSettings(Validated):
    """Changes to the default augmentation; None keeps the default.

    Attributes:
        crop: side of the square crop, in pixels; 0 keeps the whole image.
        flip: mirror half of the training images left to right.
        contrast: lowest and highest training contrast factor; an empty list for none.
        whiten: subtract an image's mean and divide by its standard deviation.
    """

    crop: Annotated[int, Range(0, 2**16)] | None = None
    flip: bool | None = None
    contrast: Annotated[list[ContrastFactor], Length(0, 2)] | None = None
    whiten: bool | None = None

    def make(self, image_shape: Sequence[int]) -> Augmentation:
        """The default augmentation for these images, with the changes.

        Raises:
            InvalidInputError: the crop does not fit, or the contrast is not a range.
        """
        fields = asdict(Augmentation.for_images(image_shape))
        fields |= {k: v for k, v in asdict(self).items() if v is not None}
        fields["crop"] = fields["crop"] or None
        fields["contrast"] = contrast = tuple(fields["contrast"] or ()) or None
        if contrast and (len(contrast) != 2 or contrast[0] > contrast[1]):
            raise InvalidInputError(
                f"contrast {list(contrast)} is not a range: give the lowest and "
                "highest factor, or [] for none"
            )
        augmentation = Augmentation(**fields)
        augmentation.output_shape(image_shape)
        return augmentation


@dataclass(frozen=True)
class ProblemSettings(Validated):
    """Which images to use, how they are split and augmented.

    Attributes:
        data: digits (embedded), mnist, fashion-mnist, cifar10, cifar100, the path of an
            .npz with x_train, y_train, x_test, y_test, or of a folder with one folder
            of images per class.
        root: folder of the files that torchvision downloads.
        download: download missing files.
        device: cpu, cuda, or auto.
        split: how the training set is split.
        augmentation: changes to the default augmentation.
    """

    data: PathText = "digits"
    root: PathText = "data"
    download: bool = False
    device: PathText = "auto"
    split: SplitSettings = field(default_factory=SplitSettings)
    augmentation: AugmentationSettings = field(default_factory=AugmentationSettings)


class Transform(Protocol):
    """Preparation of inputs for a network; :class:`Augmentation` is an example."""

    def train(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Inputs prepared for training, with random numbers of the generator."""

    def evaluate(self, images: Tensor) -> Tensor:
        """Inputs prepared for evaluation, the same at every call."""


@dataclass(frozen=True)
class EvaluationSamples:
    """Images and labels to measure an accuracy on; nothing in them is trained on.

    Attributes:
        images: as ``augmentation`` takes them.
        labels: ``(N,)``.
        evaluation: indices of those that are evaluated.
        augmentation: its centre crops are used.
        num_classes: ``K``.
    """

    images: Tensor
    labels: Tensor
    evaluation: Tensor
    augmentation: Transform
    num_classes: int


@dataclass(frozen=True)
class Samples:
    """Images and labels, with indices for training and validation.

    Attributes:
        images: as ``augmentation`` takes them; of data sets uint8 ``(N, channels, H,
            W)``.
        labels: ``(N,)``.
        train: indices for training.
        validation: indices for early stopping and the choice of settings.
        augmentation: random in training, centre crops in evaluation.
        num_classes: ``K``.
    """

    images: Tensor
    labels: Tensor
    train: Tensor
    validation: Tensor
    augmentation: Transform
    num_classes: int

    @property
    def evaluation(self) -> Tensor:
        """Indices of the images that are evaluated: the validation part."""
        return self.validation


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
        """The half of the training set for the base network."""
        return self._samples(self.splits.base_train, self.splits.base_validation)

    @property
    def gradnet_half(self) -> Samples:
        """The half for GradNet and the controls; not used for the base network."""
        return self._samples(self.splits.gradnet_train, self.splits.gradnet_validation)

    @property
    def all_training(self) -> Samples:
        """Both halves, for models that are trained in one step."""
        splits = self.splits
        return self._samples(
            torch.cat([splits.base_train, splits.gradnet_train]),
            torch.cat([splits.base_validation, splits.gradnet_validation]),
        )

    @property
    def test(self) -> EvaluationSamples:
        """The whole test set, which nothing trains on."""
        images, labels = self.data.x_test, self.data.y_test
        return EvaluationSamples(
            images,
            labels,
            evaluation=torch.arange(len(images)),
            augmentation=self.augmentation,
            num_classes=self.data.num_classes,
        )

    @property
    def identity(self) -> dict[str, Any]:
        """Plain values that identify data, splits and augmentation."""
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
    """Load the data, move it to the device and split it.

    Raises:
        InvalidInputError: see :func:`gradnet.data.datasets.load_data` and
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
