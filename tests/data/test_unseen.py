"""What a network has seen never trains or tests what is compared with it."""

import pytest
import torch

from gradnet.data.augmentation import IdentityTransform
from gradnet.data.datasets import load_data
from gradnet.data.unseen import DataParts, split_unseen
from gradnet.errors import InvalidInputError


def part(first, count):
    """Inputs that are their own numbers, and labels of three classes."""
    x = torch.arange(first, first + count)[:, None].float()
    return x, torch.arange(count) % 3


DATA = DataParts.of_arrays({"train": part(0, 60), "test": part(1000, 41)})
WITH_VAL = DataParts.of_arrays({**DATA.parts, "val": part(500, 30)})


def numbers(found):
    """The inputs that train, that choose the weights, and that test."""
    x = found.samples.images[:, 0]
    test = found.test.images[:, 0][found.test.evaluation]
    return x[found.samples.train], x[found.samples.validation], test


@pytest.mark.parametrize(
    ("data", "seen", "train", "validation", "test", "source"),
    [
        (DATA, "none", 54, 6, 41, "the train part"),
        (WITH_VAL, "none", 60, 30, 41, "the train part"),
        (DATA, "train", 18, 2, 21, "a half of the test part"),
        (WITH_VAL, "train", 27, 3, 41, "the val part"),
    ],
)
def test_parts_are_disjoint_and_none_was_seen(
    data, seen, train, validation, test, source
):
    found = split_unseen(data, seen, IdentityTransform())
    parts = numbers(found)
    assert [len(p) for p in parts] == [train, validation, test]
    assert len(torch.cat(parts).unique()) == train + validation + test
    assert found.source == source
    if seen == "train":
        assert all((p >= 500).all() for p in parts)
    assert (parts[2] >= 1000).all()
    labels = found.samples.labels[found.samples.train]
    first = 500 if source == "the val part" else 1000 if seen == "train" else 0
    assert torch.equal(labels, (parts[0].long() - first) % 3)


def test_the_division_is_a_function_of_the_seed_and_of_what_was_seen():
    def digest(*arguments):
        return split_unseen(*arguments).identity["split_fingerprint"]

    same = [digest(DATA, "train", IdentityTransform(), 3) for _ in range(2)]
    others = [
        digest(DATA, "train", IdentityTransform(), 4),
        digest(DATA, "none", IdentityTransform(), 3),
        digest(DATA, "train", IdentityTransform(), 3, 0.2),
    ]
    assert same[0] == same[1] and len({same[0], *others}) == 4


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"dev": part(0, 9)}, "a part 'dev'; parts are train, val and test"),
        ({"train": (torch.zeros(0, 2), [])}, "the train part is empty"),
        ({"test": (torch.zeros(4, 2), [0, 1])}, r"labels of shape \(2,\)"),
        ({"test": (torch.zeros(2, 2), [0.0, 1.0])}, "torch.float32 for 2 inputs"),
        ({"test": (torch.zeros(2, 2), [0, -1])}, "label -1; labels count from 0"),
    ],
)
def test_arrays_that_are_no_data_are_refused(arrays, message):
    with pytest.raises(InvalidInputError, match=message):
        DataParts.of_arrays(arrays)


def test_a_label_beyond_the_classes_is_refused():
    with pytest.raises(InvalidInputError, match="a label 2, and 2 classes"):
        DataParts.of_arrays(DATA.parts, num_classes=2)
    assert DataParts.of_arrays(DATA.parts, num_classes=5).num_classes == 5


@pytest.mark.parametrize(
    ("arrays", "seen", "message"),
    [
        ({"test": part(0, 9)}, "none", "no train part, only test"),
        ({"train": part(0, 9)}, "train", "no test part, only train"),
        ({"test": part(0, 6)}, "train", "a half of the test part has 3 samples"),
        ({"test": part(0, 9)}, "val", "seen is 'val'; it must be train or none"),
    ],
)
def test_data_that_cannot_be_divided_are_refused(arrays, seen, message):
    with pytest.raises(InvalidInputError, match=message):
        split_unseen(DataParts.of_arrays(arrays), seen, IdentityTransform())


def test_data_sets_keep_their_fingerprint_and_arrays_get_one():
    digits = load_data("digits")
    assert DataParts.of_data(digits).fingerprint == digits.fingerprint
    for changed in (
        {"test": DATA.parts["test"]},
        {"train": DATA.parts["test"], "test": DATA.parts["train"]},
        {k: (x.double(), y) for k, (x, y) in DATA.parts.items()},
    ):
        assert DataParts.of_arrays(changed).fingerprint != DATA.fingerprint
    half = {"test": (torch.zeros(4, 2, dtype=torch.bfloat16), [0, 1, 0, 1])}
    assert len(DataParts.of_arrays(half).fingerprint) == 12
