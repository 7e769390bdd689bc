"""Validation of the samples and seeds of a batch of trials."""

from collections.abc import Sequence

from torch import Tensor

from gradnet.errors import InvalidInputError


def check_samples(inputs: Tensor, targets: Tensor, seeds: Sequence[int]) -> None:
    """Check that there are samples and seeds, and that shapes match.

    Args:
        inputs: ``(N, D)``.
        targets: ``(N, K)``.
        seeds: one per trial.

    Raises:
        InvalidInputError: a shape is wrong, or there are no samples or no seeds.
    """
    if inputs.ndim != 2 or targets.ndim != 2 or len(inputs) != len(targets):
        raise InvalidInputError(
            f"inputs {tuple(inputs.shape)} and targets {tuple(targets.shape)} do not "
            "match; give (N, D) and (N, K)"
        )
    if not len(inputs) or not len(seeds):
        raise InvalidInputError("there is nothing to learn: give samples and seeds")
