"""Inputs for a user's network: which images, how prepared, and what is refused."""

import dataclasses
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference import assert_same
from snapshot_cases import make_info

from gradnet.checkpoints.inputs import InputSettings, load_inputs
from gradnet.data.augmentation import Augmentation
from gradnet.data.datasets import load_data
from gradnet.errors import GradnetError


@pytest.fixture
def colours(tmp_path: Path) -> str:
    """An .npz of images of three channels, 6 x 8 pixels."""
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "colours.npz",
        x_train=rng.integers(0, 256, (9, 6, 8, 3), dtype=np.uint8),
        y_train=np.arange(9) % 3,
        x_test=rng.integers(0, 256, (5, 6, 8, 3), dtype=np.uint8),
        y_test=np.arange(5) % 3,
    )
    return str(tmp_path / "colours.npz")


def test_images_come_in_order_and_are_only_scaled_by_default(colours: str) -> None:
    data = load_data(colours)
    inputs = load_inputs(InputSettings(data=colours))
    assert torch.equal(inputs.images, data.x_train)
    assert torch.equal(inputs.targets, data.y_train)
    assert inputs.class_names == data.class_names
    assert_same(inputs.prepare(inputs.images), data.x_train.float() / 255)


def test_part_and_limit_choose_images(colours: str) -> None:
    data = load_data(colours)
    inputs = load_inputs(InputSettings(data=colours, part="test", limit=3))
    assert torch.equal(inputs.images, data.x_test[:3])
    assert torch.equal(inputs.targets, data.y_test[:3])
    assert len(load_inputs(InputSettings(data=colours, limit=100)).images) == 9


def test_crop_and_normalization_pixel_by_pixel(colours: str) -> None:
    mean, std = [0.1, 0.2, 0.3], [0.5, 1.0, 2.0]
    inputs = load_inputs(InputSettings(data=colours, crop=4, mean=mean, std=std))
    x = inputs.prepare(inputs.images)
    assert x.shape == (9, 3, 4, 4) and x.dtype == torch.float32
    for n, c, i, j in np.ndindex(*x.shape):
        pixel = float(inputs.images[n, c, i + 1, j + 2]) / 255
        assert float(x[n, c, i, j]) == pytest.approx((pixel - mean[c]) / std[c], 1e-5)


def test_whitening_is_that_of_the_augmentation(colours: str) -> None:
    inputs = load_inputs(InputSettings(data=colours, crop=4, whiten=True))
    expected = Augmentation(crop=4, whiten=True).evaluate(inputs.images)
    assert torch.equal(inputs.prepare(inputs.images), expected)


def test_mean_alone_and_std_alone(colours: str) -> None:
    x = load_data(colours).x_train.float() / 255
    inputs = load_inputs(InputSettings(data=colours, mean=[0.5, 0.5, 0.5]))
    assert_same(inputs.prepare(inputs.images), x - 0.5)
    inputs = load_inputs(InputSettings(data=colours, std=[0.5, 0.5, 0.5]))
    assert_same(inputs.prepare(inputs.images), x / 0.5)


def test_a_snapshot_says_how_and_which() -> None:
    augmentation = Augmentation(crop=6, flip=True, contrast=(0.2, 1.8), whiten=True)
    info = make_info(data="digits", augmentation=dataclasses.asdict(augmentation))
    inputs = load_inputs(InputSettings(part="test"), info)
    images = load_data("digits").x_test
    assert torch.equal(inputs.images, images)
    assert torch.equal(inputs.prepare(images), augmentation.evaluate(images))


def test_another_preparation_than_the_snapshots_is_refused() -> None:
    info = make_info(data="digits")
    with pytest.raises(GradnetError, match="leave out --crop, --std, --whiten"):
        load_inputs(InputSettings(crop=4, std=[1.0], whiten=True), info)


def test_the_snapshots_crop_must_fit_the_data(colours: str) -> None:
    augmentation = dataclasses.asdict(Augmentation(crop=7))
    with pytest.raises(GradnetError, match="a crop of 7 does not fit"):
        load_inputs(InputSettings(data=colours), make_info(augmentation=augmentation))


CHANGES: dict[str, dict[str, Any]] = {
    "part": {"part": "test"},
    "limit": {"limit": 3},
    "crop": {"crop": 4},
    "mean": {"mean": [0.0, 0.0, 0.1]},
    "std": {"std": [1.0, 1.0, 2.0]},
    "whiten": {"whiten": True},
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_description_changes_with_the_input(colours: str, change: str) -> None:
    description = load_inputs(InputSettings(data=colours)).description
    assert json.loads(json.dumps(description)) == description
    changed = load_inputs(InputSettings(data=colours, **CHANGES[change])).description
    assert changed != description


def test_the_description_knows_the_data_not_its_place(colours: str) -> None:
    description = load_inputs(InputSettings(data=colours)).description
    moved = Path(colours).rename(Path(colours).with_name("moved.npz"))
    assert load_inputs(InputSettings(data=str(moved))).description == description
    arrays = dict(np.load(moved))
    arrays["x_train"][0, 0, 0, 0] ^= 1
    np.savez(moved, **arrays)
    assert load_inputs(InputSettings(data=str(moved))).description != description


def test_the_preparation_can_go_to_other_processes(colours: str) -> None:
    inputs = load_inputs(InputSettings(data=colours, mean=[0.1, 0.2, 0.3]))
    again = pickle.loads(pickle.dumps(inputs.prepare))
    assert torch.equal(again(inputs.images), inputs.prepare(inputs.images))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data": None}, "no data set is named; name one with --data"),
        ({"data": "moon"}, "no data set 'moon'"),
        ({"limit": 0}, "limit is 0; it must be >= 1"),
        ({"part": "all"}, "part is 'all'; it must be train or test"),
        ({"crop": 7}, "a crop of 7 does not fit"),
        ({"mean": [0.5]}, "mean has 1 values for images of 3 channels"),
        ({"std": [0.5, 0.5]}, "std has 2 values for images of 3 channels"),
        ({"std": [0.5, 0.0, 0.5]}, "std.1. is 0.0; it must be > 0"),
        (
            {"mean": [0.5, float("nan"), 0.5]},
            "mean.1. is nan; it must be a finite number",
        ),
        ({"whiten": True, "mean": [0.5] * 3}, "give no others"),
    ],
)
def test_what_does_not_fit_is_refused(
    colours: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(GradnetError, match=message):
        load_inputs(InputSettings(**{"data": colours, **settings}))
