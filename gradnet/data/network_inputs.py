"""Inputs as a user's network takes them: prepared, in its type, augmented if asked."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gradnet.errors import InvalidInputError


@dataclass(frozen=True)
class NetworkInputs:
    """The user's own preparation of inputs; nothing random unless it is asked for.

    Attributes:
        prepare: maps a batch to inputs of the network, the same at every call.
        dtype: of the network's weights; floats are converted, whole numbers (tokens)
            stay. None converts nothing.
        flip: mirror half of the training images left to right.
        shift: move training images by up to so many pixels, at random; the border is
            repeated.

    Example:
        >>> inputs = NetworkInputs(lambda x: x / 255, torch.float32, flip=True)
        >>> images = torch.full((2, 1, 4, 4), 51.0, dtype=torch.float64)
        >>> inputs.evaluate(images).unique()
        tensor([0.2000])
    """

    prepare: Callable[[Tensor], Tensor]
    dtype: torch.dtype | None = None
    flip: bool = False
    shift: int = 0

    def train(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Inputs for training ``(N, ...)``, with random numbers of the generator.

        Raises:
            InvalidInputError: what is to be mirrored or moved is no image.
        """
        if self.flip or self.shift:
            if images.dim() != 4:
                raise InvalidInputError(
                    f"inputs of shape {tuple(images.shape[1:])} are no images that "
                    "could be mirrored or moved; leave out --flip and --shift"
                )
            images = self._moved(images, generator)
        return self.evaluate(images)

    def evaluate(self, images: Tensor) -> Tensor:
        """Inputs for evaluation ``(N, ...)``."""
        x = self.prepare(images)
        return x.to(self.dtype) if self.dtype and x.is_floating_point() else x

    def _moved(self, images: Tensor, generator: torch.Generator) -> Tensor:
        count, _, height, width = images.shape
        device = images.device
        low, high = -self.shift, self.shift + 1
        size = (2, count)
        offsets = torch.randint(low, high, size, generator=generator, device=device)
        rows = torch.arange(height, device=device) + offsets[0][:, None]
        columns = torch.arange(width, device=device) + offsets[1][:, None]
        if self.flip:
            draws = torch.rand(count, generator=generator, device=device)
            columns = torch.where(draws[:, None] < 0.5, columns.flip(-1), columns)
        rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
        samples = torch.arange(count, device=device)[:, None, None, None]
        channels = torch.arange(images.shape[1], device=device)[:, None, None]
        return images[samples, channels, rows[:, None, :, None], columns[:, None, None]]


def as_they_are(inputs: Tensor) -> Tensor:
    """The inputs: they need no preparation."""
    return inputs
