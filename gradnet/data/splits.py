"""Which images train the base, which train GradNet, which choose between settings."""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from gradnet.core.reproducibility import make_generator
from gradnet.errors import GradnetError


@dataclass(frozen=True)
class Splits:
    """Indices into the training set; no two of the four share an image.

    Half of the training set trains the base network, the other half trains GradNet,
    as in the 2018 study; a validation part is held out of each half. The test set is
    no part of this: it is looked at once, when everything is chosen.

    Attributes:
        base_train: trains the base network.
        base_validation: says when a snapshot is due.
        gradnet_train: trains GradNet and the controls.
        gradnet_validation: stops GradNet and chooses its settings.
        seed: of the shuffle.
        validation_fraction: part of each half that is held out.
    """

    base_train: Tensor
    base_validation: Tensor
    gradnet_train: Tensor
    gradnet_validation: Tensor
    seed: int
    validation_fraction: float

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change when any index does."""
        parts = (
            self.base_train,
            self.base_validation,
            self.gradnet_train,
            self.gradnet_validation,
        )
        digest = hashlib.sha256()
        for part in parts:
            digest.update(len(part).to_bytes(8, "big") + part.numpy().tobytes())
        return digest.hexdigest()[:12]


def make_splits(count: int, seed: int = 0, validation_fraction: float = 0.1) -> Splits:
    """Split ``count`` training images by a seeded shuffle.

    Raises:
        GradnetError: the fraction is not in (0, 1), or a part would be empty.
    """
    if not 0 < validation_fraction < 1:
        raise GradnetError(
            f"validation_fraction is {validation_fraction}; it must lie between 0 and 1"
        )
    order = torch.randperm(count, generator=make_generator("splits", seed))
    half = count // 2
    held_out = round(half * validation_fraction)
    if held_out < 1 or half - held_out < 1:
        raise GradnetError(
            f"{count} training images are too few to hold out {validation_fraction:g} "
            "of each half; give more images or another --split.validation_fraction"
        )
    base, other = order[:half], order[half:]
    return Splits(
        base_train=base[held_out:],
        base_validation=base[:held_out],
        gradnet_train=other[held_out:],
        gradnet_validation=other[:held_out],
        seed=seed,
        validation_fraction=validation_fraction,
    )
