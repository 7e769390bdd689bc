"""A problem brings data, splits and augmentation together."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from gradnet.data.augmentation import Augmentation
from gradnet.data.problem import (
    AugmentationSettings,
    Problem,
    ProblemSettings,
    SplitSettings,
    make_problem,
)
from gradnet.errors import GradnetError

COLOUR = (3, 32, 32)


def make_toy(path: Path, **changes: object) -> Problem:
    images = np.random.RandomState(0).randint(0, 256, (60, 6, 6)).astype(np.uint8)
    labels = np.arange(60) % 3
    np.savez(
        path / "toy.npz",
        x_train=images[:40],
        y_train=labels[:40],
        x_test=images[40:],
        y_test=labels[40:],
    )
    settings = ProblemSettings(data=str(path / "toy.npz"), device="cpu", **changes)
    return make_problem(settings)


def test_default_problem_is_digits() -> None:
    problem = make_problem(ProblemSettings(device="cpu"))
    assert problem.data.name == "digits"
    assert problem.input_shape == (1, 8, 8)
    assert len(problem.splits.base_train) + len(problem.splits.base_validation) == 719


def test_halves_use_their_own_parts_of_the_training_set(tmp_path: Path) -> None:
    problem = make_toy(tmp_path)
    splits = problem.splits
    for half, train, validation in (
        (problem.base_half, splits.base_train, splits.base_validation),
        (problem.gradnet_half, splits.gradnet_train, splits.gradnet_validation),
    ):
        assert torch.equal(half.train, train)
        assert torch.equal(half.validation, validation)
        assert half.images is problem.data.x_train
        assert half.labels is problem.data.y_train
        assert half.num_classes == 3


def test_nothing_trains_on_the_test_set(tmp_path: Path) -> None:
    problem = make_toy(tmp_path)
    test = problem.test
    assert test.images is problem.data.x_test and test.labels is problem.data.y_test
    assert not hasattr(test, "train")
    assert torch.equal(test.evaluation, torch.arange(20))
    half = problem.base_half
    assert torch.equal(half.evaluation, half.validation)


def test_input_shape_is_that_after_the_crop(tmp_path: Path) -> None:
    problem = make_toy(tmp_path, augmentation=AugmentationSettings(crop=4))
    assert problem.input_shape == (1, 4, 4)
    assert problem.data.image_shape == (1, 6, 6)


def test_split_settings_reach_the_splits(tmp_path: Path) -> None:
    problem = make_toy(tmp_path, split=SplitSettings(seed=5, validation_fraction=0.25))
    assert len(problem.splits.base_validation) == 5
    assert problem.splits.seed == 5


def test_identity_changes_with_all_that_results_depend_on(tmp_path: Path) -> None:
    variants = [
        {},
        {"split": SplitSettings(seed=1)},
        {"split": SplitSettings(validation_fraction=0.2)},
        {"augmentation": AugmentationSettings(flip=True)},
        {"augmentation": AugmentationSettings(crop=4)},
    ]
    found = [json.dumps(make_toy(tmp_path, **v).identity) for v in variants]
    assert len(set(found)) == len(variants)
    assert json.dumps(make_toy(tmp_path).identity) == found[0]


def test_unchanged_augmentation_is_the_default() -> None:
    assert AugmentationSettings().make(COLOUR) == Augmentation.for_images(COLOUR)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (AugmentationSettings(crop=0), Augmentation(None, True, (0.2, 1.8), True)),
        (AugmentationSettings(crop=8), Augmentation(8, True, (0.2, 1.8), True)),
        (AugmentationSettings(flip=False), Augmentation(24, False, (0.2, 1.8), True)),
        (AugmentationSettings(contrast=[]), Augmentation(24, True, None, True)),
        (
            AugmentationSettings(contrast=[0.5, 2]),
            Augmentation(24, True, (0.5, 2), True),
        ),
        (AugmentationSettings(whiten=False), Augmentation(24, True, (0.2, 1.8), False)),
    ],
)
def test_one_change_leaves_the_other_defaults(
    settings: AugmentationSettings, expected: Augmentation
) -> None:
    assert settings.make(COLOUR) == expected


@pytest.mark.parametrize(
    ("crop", "message"),
    [(33, "crop of 33 does not fit .*32 x 32"), (-1, "crop is -1; it must be >= 0")],
)
def test_crop_that_does_not_fit_is_refused(crop: int, message: str) -> None:
    with pytest.raises(GradnetError, match=message):
        AugmentationSettings(crop=crop).make(COLOUR)


@pytest.mark.parametrize("contrast", [[0.5], [0.2, 0.5, 1.8], [1.8, 0.2]])
def test_contrast_that_is_no_range_is_refused(contrast: list[float]) -> None:
    with pytest.raises(GradnetError, match="contrast .*(lowest and highest|2 items)"):
        AugmentationSettings(contrast=contrast).make(COLOUR)


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GradnetError, match="40 training images are too few"):
        make_toy(tmp_path, split=SplitSettings(validation_fraction=0.01))


def test_unknown_device_is_refused_before_loading() -> None:
    with pytest.raises(GradnetError, match="device 'abacus' cannot be used"):
        make_problem(ProblemSettings(data="no such data", device="abacus"))


def test_all_training_images_are_both_halves(tmp_path: Path) -> None:
    problem = make_toy(tmp_path)
    whole, halves = problem.all_training, (problem.base_half, problem.gradnet_half)
    for part in ("train", "validation"):
        expected = torch.cat([getattr(half, part) for half in halves])
        assert torch.equal(getattr(whole, part), expected)
    everything = torch.cat([whole.train, whole.validation])
    assert sorted(everything.tolist()) == list(range(40))
    assert whole.images is problem.data.x_train
    assert whole.labels is problem.data.y_train
    assert whole.augmentation == problem.augmentation and whole.num_classes == 3
