"""Disjoint parts of the training set for the base network and for GradNet."""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from gradnet.core.reproducibility import make_generator
from gradnet.core.validation import Fraction, Seed, check_arguments
from gradnet.errors import InvalidInputError


@dataclass(frozen=True)
class Splits:
    """Indices into the training set, in four disjoint parts.

    Half of the training set trains the base network, the other half trains GradNet,
    as in the 2018 study; a validation part is held out of each half. The test set is
    separate: it is used once, after all settings are chosen.

    Attributes:
        base_train: trains the base network.
        base_validation: decides when a snapshot is saved.
        gradnet_train: trains GradNet and the controls.
        gradnet_validation: for early stopping and the choice of settings.
        seed: of the shuffle.
        validation_fraction: fraction of each half that is held out.
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


@check_arguments
def make_splits(
    count: int, seed: Seed = 0, validation_fraction: Fraction = 0.1
) -> Splits:
    """Split ``count`` training images by a seeded shuffle.

    Args:
        count: number of training images.
        seed: of the shuffle.
        validation_fraction: fraction of each half that is held out.

    Raises:
        InvalidInputError: the fraction is not in (0, 1), or a part would be empty.

    Example:
        >>> splits = make_splits(100, seed=0, validation_fraction=0.1)
        >>> len(splits.base_train), len(splits.base_validation)
        (45, 5)
        >>> sorted(torch.cat([splits.base_train, splits.base_validation,
        ...     splits.gradnet_train, splits.gradnet_validation]).tolist()) == list(
        ...     range(100))
        True
    """
    order = torch.randperm(count, generator=make_generator("splits", seed))
    half = count // 2
    held_out = round(half * validation_fraction)
    if held_out < 1 or half - held_out < 1:
        raise InvalidInputError(
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
