"""Named data sets as uint8 tensors: digits, torchvision, ``.npz`` files, folders."""

import hashlib
import logging
import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gradnet.core.files import read_npz
from gradnet.core.text import listed, reason_of
from gradnet.data.image_folder import read_image_folder
from gradnet.errors import DamagedFileError, InvalidInputError

logger = logging.getLogger("gradnet")

TORCHVISION_NAMES = {
    "mnist": "MNIST",
    "fashion-mnist": "FashionMNIST",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
}
NAMES = ("digits", *TORCHVISION_NAMES)
TEST_FRACTION = 0.2
MAX_CLASSES = 100_000


@dataclass(frozen=True)
class ImageData:
    """Images and labels of training and test set, in memory as bytes.

    Attributes:
        name: the name or path that the user gave.
        x_train: uint8 ``(N, channels, height, width)``.
        y_train: int64 ``(N,)``, from 0 to ``num_classes - 1``.
        x_test: as ``x_train``; used once, at the end.
        y_test: as ``y_train``.
        class_names: one for each of the ``K`` classes.
    """

    name: str
    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    class_names: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        """The number of classes, ``K``."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(channels, height, width)``."""
        channels, height, width = self.x_train.shape[1:]
        return channels, height, width

    @cached_property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change when an image or a label does."""
        digest = hashlib.sha256()
        for part in (self.x_train, self.y_train, self.x_test, self.y_test):
            digest.update(repr(tuple(part.shape)).encode())
            digest.update(part.cpu().numpy().tobytes())
        return digest.hexdigest()[:12]

    def to(self, device: torch.device) -> "ImageData":
        """The same data on a device."""
        return replace(
            self,
            x_train=self.x_train.to(device),
            y_train=self.y_train.to(device),
            x_test=self.x_test.to(device),
            y_test=self.y_test.to(device),
        )


def load_data(name: str, root: str = "data", download: bool = False) -> ImageData:
    """Load a data set by name or path.

    Args:
        name: ``digits`` (comes with scikit-learn), ``mnist``, ``fashion-mnist``,
            ``cifar10``, ``cifar100``, the path of an ``.npz`` with ``x_train, y_train,
            x_test, y_test``, or of a folder with one folder of images per class
            (directly, or in its ``train`` and ``test``). All but ``digits`` and
            ``.npz`` files need torchvision: ``pip install 'gradnet[torchvision]'``.
        root: folder of the files that torchvision downloads.
        download: download missing files.

    Raises:
        InvalidInputError: the name is unknown, the data set is empty or of one class
            only, or its arrays have a wrong shape or type, labels out of range or
            pixels that are not finite.
        DamagedFileError: a file is missing or cannot be read.
        GradnetError: torchvision is needed and not installed.

    Example:
        >>> data = load_data("digits")
        >>> data.x_train.shape, data.x_train.dtype, data.num_classes
        (torch.Size([1438, 1, 8, 8]), torch.uint8, 10)
    """
    if name == "digits":
        return _load_digits()
    if name in TORCHVISION_NAMES:
        return _load_torchvision(name, root, download)
    path = Path(name)
    if os.path.isdir(path):
        return _load_folder(path)
    if path.suffix == ".npz":
        return _load_npz(path)
    raise InvalidInputError(
        f"no data set {name[:200]!a}: give one of {', '.join(NAMES)}, the path of an "
        ".npz file, or of a folder with one folder of images per class"
    )


def make_data(
    name: str,
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    class_names: tuple[str, ...] | None = None,
) -> ImageData:
    """Validate arrays and make an :class:`ImageData` of them.

    Args:
        name: of the data set, for error messages.
        train: images ``(N, H, W)``, ``(N, H, W, channels)`` or ``(N, channels, H, W)``
            with 1 or 3 channels, uint8 or floats from 0 to 1 or from 0 to 255; and
            integer labels ``(N,)``.
        test: the same for the test set.
        class_names: default: the numbers 0 to the largest training label.

    Raises:
        InvalidInputError: see :func:`load_data`.
    """
    x_train, x_test = (
        _as_images(f"{name}: x_{part}", images)
        for part, images in (("train", train[0]), ("test", test[0]))
    )
    if x_train.shape[1:] != x_test.shape[1:]:
        raise InvalidInputError(
            f"{name}: training images are {tuple(x_train.shape[1:])}, test images "
            f"{tuple(x_test.shape[1:])} (channels, height, width); make them the same"
        )
    labels = np.asarray(train[1])
    if class_names is None and labels.dtype.kind in "iu" and labels.size:
        # The cap keeps one wrong label from filling the memory with names.
        count = min(int(labels.max()) + 1, MAX_CLASSES)
        class_names = tuple(str(label) for label in range(count))
    class_names = class_names or ()
    y_train = _as_labels(f"{name}: y_train", labels, len(x_train), len(class_names))
    y_test = _as_labels(f"{name}: y_test", test[1], len(x_test), len(class_names))
    if len(y_train.unique()) < 2:
        raise InvalidInputError(
            f"{name}: all training images are of one class; give two"
        )
    return ImageData(name, x_train, y_train, x_test, y_test, class_names)


def _as_images(name: str, images: np.ndarray) -> Tensor:
    images = np.asarray(images)
    if not images.size:
        raise InvalidInputError(f"{name} is empty")
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[-1] in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise InvalidInputError(
            f"{name} has shape {images.shape}; images are (N, H, W), (N, H, W, "
            "channels) or (N, channels, H, W) with 1 or 3 channels"
        )
    if images.dtype.kind == "f":
        if not np.isfinite(images).all():
            bad = int(np.flatnonzero(~np.isfinite(images).all((1, 2, 3)))[0])
            raise InvalidInputError(
                f"{name} has pixels that are not finite (image {bad})"
            )
        scale = 255 if images.max() <= 1 else 1
        images = np.rint(images * scale)
    if images.dtype.kind not in "fiu":
        raise InvalidInputError(
            f"{name} has the type {images.dtype}; pixels are bytes, or floats from 0 "
            "to 1"
        )
    if images.min() < 0 or images.max() > 255:
        raise InvalidInputError(
            f"{name} ({images.dtype}) has values outside 0..255; give bytes, or floats "
            "from 0 to 1"
        )
    return torch.from_numpy(np.ascontiguousarray(images, dtype=np.uint8))


def _as_labels(name: str, labels: np.ndarray, count: int, classes: int) -> Tensor:
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (count,):
        raise InvalidInputError(f"{name} has shape {labels.shape} for {count} images")
    if labels.dtype.kind not in "iu":
        raise InvalidInputError(f"{name} has type {labels.dtype}; labels are integers")
    if labels.min() < 0 or labels.max() >= classes:
        bad = int(labels.min() if labels.min() < 0 else labels.max())
        raise InvalidInputError(
            f"{name} has the label {bad}, out of range: there are {classes} classes, "
            f"from 0 to {classes - 1}"
        )
    return torch.from_numpy(labels.astype(np.int64))


def _split_off_test(count: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.random.RandomState(0).permutation(count)
    test = round(count * TEST_FRACTION)
    return np.sort(order[test:]), np.sort(order[:test])


def _load_digits() -> ImageData:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images = np.rint(images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    train, test = _split_off_test(len(images))
    return make_data(
        "digits", (images[train], labels[train]), (images[test], labels[test])
    )


def _load_torchvision(name: str, root: str, download: bool) -> ImageData:
    from gradnet.core.torchvision import import_torchvision

    make = getattr(import_torchvision(), TORCHVISION_NAMES[name])
    try:
        parts = [make(root, train=train, download=download) for train in (True, False)]
    except RuntimeError as error:
        if download:
            raise DamagedFileError(
                f"{name} could not be downloaded: {reason_of(error)}"
            ) from None
        raise DamagedFileError(
            f"{name} is not in the folder {root!r}; add --download, or name its folder "
            "with --root"
        ) from None
    except OSError as error:
        raise DamagedFileError(
            f"{name} could not be downloaded: {reason_of(error)}"
        ) from None
    train, test = ((np.asarray(part.data), np.asarray(part.targets)) for part in parts)
    return make_data(name, train, test, tuple(parts[0].classes))


def _load_npz(path: Path) -> ImageData:
    wanted = ("x_train", "y_train", "x_test", "y_test")

    def select(keys: list[str]) -> tuple[str, ...]:
        if missing := [key for key in wanted if key not in keys]:
            raise DamagedFileError(
                f"{path} has no {', '.join(missing)}; it has {listed(keys)}"
            )
        return wanted

    x_train, y_train, x_test, y_test = read_npz(path, select).values()
    return make_data(str(path), (x_train, y_train), (x_test, y_test))


def _load_folder(path: Path) -> ImageData:
    if (path / "train").is_dir() and (path / "test").is_dir():
        if (path / "val").is_dir():
            logger.warning("%s is left out: train and test are read", path / "val")
        x_train, y_train, classes = read_image_folder(path / "train")
        x_test, y_test, test_classes = read_image_folder(path / "test")
        if test_classes != classes:
            odd = sorted(set(classes) ^ set(test_classes))
            raise InvalidInputError(
                f"{path}: train and test have different class folders: {odd}"
            )
        return make_data(str(path), (x_train, y_train), (x_test, y_test), classes)
    images, labels, classes = read_image_folder(path)
    train, test = _split_off_test(len(images))
    return make_data(
        str(path), (images[train], labels[train]), (images[test], labels[test]), classes
    )
