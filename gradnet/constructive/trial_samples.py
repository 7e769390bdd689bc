"""What trials on classic problems learn from: samples, checked before anything runs."""

from collections.abc import Sequence

from torch import Tensor

from gradnet.errors import InvalidInputError


def check_samples(inputs: Tensor, targets: Tensor, seeds: Sequence[int]) -> None:
    """Refuse samples that do not fit each other, and nothing at all.

    Args:
        inputs: ``(N, D)``.
        targets: ``(N, K)``.
        seeds: of the trials.

    Raises:
        InvalidInputError: the shapes are others, or there is no sample or no seed.
    """
    if inputs.ndim != 2 or targets.ndim != 2 or len(inputs) != len(targets):
        raise InvalidInputError(
            f"inputs {tuple(inputs.shape)} and targets {tuple(targets.shape)} do not "
            "fit; give (N, D) and (N, K)"
        )
    if not len(inputs) or not len(seeds):
        raise InvalidInputError("there is nothing to learn: give samples and seeds")
