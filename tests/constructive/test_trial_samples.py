"""Missing samples, and samples of other shapes, are refused."""

import pytest
import torch

from gradnet.constructive.trial_samples import check_samples
from gradnet.errors import InvalidInputError


@pytest.mark.parametrize(
    ("inputs", "targets", "seeds", "message"),
    [
        ((4, 2), (3, 1), [0], r"inputs \(4, 2\) and targets \(3, 1\) do not match"),
        ((4,), (4, 1), [0], r"give \(N, D\) and \(N, K\)"),
        ((4, 2), (4,), [0], r"give \(N, D\) and \(N, K\)"),
        ((0, 2), (0, 1), [0], "nothing to learn"),
        ((4, 2), (4, 1), [], "nothing to learn"),
    ],
)
def test_invalid_samples_and_seeds_are_refused(inputs, targets, seeds, message):
    check_samples(torch.ones(4, 2), torch.ones(4, 1), [0])
    with pytest.raises(InvalidInputError, match=message):
        check_samples(torch.ones(inputs), torch.ones(targets), seeds)
