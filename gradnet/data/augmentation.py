"""Augmentation of a batch on its device, with random numbers for each sample.

The transforms of the 2018 study: random crop, flip and contrast and per-image whitening
in training, centre crop and whitening in evaluation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from gradnet.core.constraints import Range
from gradnet.core.validation import Pixels, Validated
from gradnet.errors import InvalidInputError

ContrastFactor = Annotated[float, Range(0, 1000)]


@dataclass(frozen=True)
class Augmentation(Validated):
    """Crop, flip, contrast and whitening of images, before the network sees them.

    Attributes:
        crop: side of the square crop, in pixels; None keeps the whole image.
        flip: mirror half of the training images left to right.
        contrast: range of the training contrast factor about each channel's mean, one
            factor for all channels of an image; None does not change
            it.
        whiten: subtract an image's mean and divide by its standard deviation, both
            scalars over the whole crop.

    Example:
        >>> augmentation = Augmentation(crop=6, whiten=False)
        >>> images = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
        >>> augmentation.evaluate(images).shape
        torch.Size([2, 1, 6, 6])
        >>> augmentation.train(images, torch.Generator().manual_seed(0)).dtype
        torch.float32
    """

    crop: Pixels | None = None
    flip: bool = False
    contrast: tuple[ContrastFactor, ContrastFactor] | None = None
    whiten: bool = True

    @classmethod
    def for_images(cls, image_shape: Sequence[int]) -> "Augmentation":
        """The default for images of ``(channels, height, width)``.

        Colour images of at least 32 x 32: all transforms of the 2018 study, with crops
        of three quarters (24 of 32). Other images of at least 28 x 28: crops smaller by
        four pixels, neither flip nor contrast (digits are not symmetric). Smaller
        images: whitening alone.
        """
        channels, side = image_shape[0], min(image_shape[1:])
        if channels >= 3 and side >= 32:
            return cls(crop=side * 3 // 4, flip=True, contrast=(0.2, 1.8))
        if side >= 28:
            return cls(crop=side - 4)
        return cls()

    def output_shape(self, image_shape: Sequence[int]) -> tuple[int, int, int]:
        """``(channels, height, width)`` after the crop.

        Raises:
            InvalidInputError: the crop is larger than the image.
        """
        channels, height, width = image_shape
        if self.crop is None:
            return channels, height, width
        if not 1 <= self.crop <= min(height, width):
            raise InvalidInputError(
                f"a crop of {self.crop} does not fit images of {height} x {width}"
            )
        return channels, self.crop, self.crop

    @property
    def is_random(self) -> bool:
        """Whether :meth:`train` may transform an image differently at every call."""
        return self.crop is not None or self.flip or self.contrast is not None

    def train(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Augment images for training, at random.

        Args:
            images: uint8 ``(N, C, H, W)``, on any device.
            generator: on the same device.

        Returns:
            Float32 ``(N, C, h, w)``.
        """
        x = self._random_crop(images, generator).float() / 255
        if self.flip:
            mirrored = _uniform(len(x), generator) < 0.5
            x = torch.where(mirrored[:, None, None, None], x.flip(-1), x)
        if self.contrast is not None:
            low, high = self.contrast
            factor = low + (high - low) * _uniform(len(x), generator)
            mean = x.mean((-1, -2), keepdim=True)
            x = (x - mean) * factor[:, None, None, None] + mean
        return whiten(x) if self.whiten else x

    def evaluate(self, images: Tensor) -> Tensor:
        """Prepare images for evaluation: centre crop and whitening.

        Args:
            images: uint8 ``(N, C, H, W)``.

        Returns:
            Float32 ``(N, C, h, w)``.
        """
        _, height, width = self.output_shape(images.shape[1:])
        top, left = (images.shape[-2] - height) // 2, (images.shape[-1] - width) // 2
        x = images[..., top : top + height, left : left + width].float() / 255
        return whiten(x) if self.whiten else x

    def _random_crop(self, images: Tensor, generator: torch.Generator) -> Tensor:
        _, height, width = self.output_shape(images.shape[1:])
        if (height, width) == tuple(images.shape[-2:]):
            return images
        count, channels = images.shape[:2]
        offsets = [
            (_uniform(count, generator) * (full - part + 1)).long()
            for full, part in zip(images.shape[-2:], (height, width), strict=True)
        ]
        rows = offsets[0][:, None] + torch.arange(height, device=images.device)
        columns = offsets[1][:, None] + torch.arange(width, device=images.device)
        samples = torch.arange(count, device=images.device)[:, None, None, None]
        planes = torch.arange(channels, device=images.device)[:, None, None]
        return images[samples, planes, rows[:, None, :, None], columns[:, None, None]]


def whiten(images: Tensor) -> Tensor:
    """``(x - mean) / max(std, 1 / sqrt(n))`` over the ``n`` values of each image.

    The lower bound keeps the noise of a constant image from being amplified.
    """
    if not len(images):
        return images  # std_mean warns of an empty batch
    count = images[0].numel()
    dims = tuple(range(1, images.dim()))
    deviation, mean = torch.std_mean(images, dim=dims, correction=0, keepdim=True)
    return (images - mean) / deviation.clamp_min(count**-0.5)


def _uniform(count: int, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator, device=generator.device)


class IdentityTransform:
    """Inputs that need no preparation."""

    def train(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """The inputs."""
        return images

    def evaluate(self, images: Tensor) -> Tensor:
        """The inputs."""
        return images
