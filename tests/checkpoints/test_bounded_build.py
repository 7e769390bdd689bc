"""Networks are built no larger than their file explains."""

import pytest
import torch
from torch import nn

from gradnet.checkpoints.bounded_build import build_from_file
from gradnet.errors import DamagedFileError, InvalidInputError

FEW = [torch.ones(2)]


def test_what_fits_is_built_and_nothing_is_counted_afterwards() -> None:
    model = build_from_file(lambda: nn.Linear(3, 2), FEW, "a", "snapshot")
    assert model.out_features == 2
    nn.Linear(3000, 3000)  # of which the file explains nothing


@pytest.mark.parametrize("width", [4000, 10**11])
def test_large_layers_are_refused(width: int) -> None:
    with pytest.raises(DamagedFileError, match="a holds no snapshot"):
        build_from_file(lambda: nn.Linear(width, width), FEW, "a", "snapshot")


def test_many_layers_are_refused() -> None:
    def build() -> nn.Module:
        return nn.Sequential(*(nn.ReLU() for _ in range(10**4)))

    with pytest.raises(DamagedFileError, match="more than 5,020 layers"):
        build_from_file(build, FEW, "a", "snapshot")


def test_our_own_errors_pass() -> None:
    def build() -> nn.Module:
        raise InvalidInputError("no such model")

    with pytest.raises(InvalidInputError, match="no such model"):
        build_from_file(build, FEW, "a", "snapshot")
