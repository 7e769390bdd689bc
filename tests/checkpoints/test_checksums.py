"""A checksum covers names, types, shapes, values and the header."""

import pytest
import torch

from gradnet.checkpoints.checksums import verified, with_checksum
from gradnet.errors import DamagedFileError

HEADER = {"format": 2, "a": (1, 2.5), "b": None}
TENSORS = {"w": torch.arange(6.0).view(2, 3), "n": torch.tensor(3)}


def test_the_header_comes_back_as_it_was() -> None:
    found = verified(with_checksum(HEADER, TENSORS), TENSORS, "a")
    assert found == HEADER


@pytest.mark.parametrize(
    "change",
    [
        {"w": TENSORS["w"].view(3, 2)},
        {"w": TENSORS["w"].view(torch.int32)},
        {"w": -TENSORS["w"]},
        {"n": torch.tensor(4)},
        {"other": torch.ones(1)},
    ],
)
def test_changed_tensors_are_seen(change: dict[str, torch.Tensor]) -> None:
    with pytest.raises(DamagedFileError, match="a is damaged"):
        verified(with_checksum(HEADER, TENSORS), TENSORS | change, "a")


def test_a_changed_header_is_seen() -> None:
    for change in ({"a": [1, 2]}, {"c": 1}, {"checksum": "0"}, {"format": 0}):
        with pytest.raises(DamagedFileError, match="the checksum differs"):
            verified(with_checksum(HEADER, TENSORS) | change, TENSORS, "a")
