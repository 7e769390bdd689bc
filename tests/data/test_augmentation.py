"""Augmentation against plain numpy twins: crop, flip, contrast, whitening."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradnet.core.reproducibility import make_generator
from gradnet.data.augmentation import Augmentation, whiten
from gradnet.errors import GradnetError

PLAIN = Augmentation(whiten=False)


def make_images(
    count: int = 40, channels: int = 3, height: int = 7, width: int = 9
) -> torch.Tensor:
    shape = (count, channels, height, width)
    return torch.randint(0, 256, shape, generator=make_generator(0)).to(torch.uint8)


def as_numpy(images: torch.Tensor) -> np.ndarray:
    return images.numpy().astype(np.float64)


def twin_whiten(image: np.ndarray) -> np.ndarray:
    return (image - image.mean()) / max(image.std(), 1 / np.sqrt(image.size))


def twin_contrast(image: np.ndarray, factor: float) -> np.ndarray:
    mean = image.mean(axis=(1, 2), keepdims=True)
    return (image - mean) * factor + mean


def find_offset(image: np.ndarray, crop: np.ndarray) -> tuple[int, int]:
    """Where ``crop`` stands in ``image``; fails when it is no crop of it."""
    side = crop.shape[-1]
    for top in range(image.shape[-2] - side + 1):
        for left in range(image.shape[-1] - side + 1):
            if np.array_equal(
                image[:, top : top + side, left : left + side], crop.round()
            ):
                return top, left
    raise AssertionError("no crop of the image")


def find_offsets(images: torch.Tensor, crops: torch.Tensor) -> list[tuple[int, int]]:
    pairs = zip(as_numpy(images), as_numpy(crops) * 255, strict=True)
    return [find_offset(image, crop) for image, crop in pairs]


def test_random_crop_is_some_crop_of_its_own_image() -> None:
    images = make_images(300)
    crops = Augmentation(crop=5, whiten=False).train(images, make_generator(1))
    offsets = find_offsets(images, crops)
    assert {top for top, _ in offsets} == set(range(3))
    assert {left for _, left in offsets} == set(range(5))
    assert len(set(offsets)) == 15, "rows and columns are drawn apart"


def test_crop_offsets_are_uniform() -> None:
    images = make_images(3000, 1, 5, 5)
    crops = Augmentation(crop=3, whiten=False).train(images, make_generator(2))
    counts = np.bincount([top for top, _ in find_offsets(images, crops)])
    assert counts.min() > 900


def test_crop_of_the_whole_image_changes_nothing() -> None:
    images = make_images(height=9)
    found = Augmentation(crop=9, whiten=False).train(images, make_generator(0))
    assert torch.equal(found, images.float() / 255)


@pytest.mark.parametrize(
    ("size", "side", "offset"), [((32, 32), 24, (4, 4)), ((7, 9), 4, (1, 2))]
)
def test_centre_crop_stands_in_the_middle(
    size: tuple[int, int], side: int, offset: tuple[int, int]
) -> None:
    images = make_images(4, 3, *size)
    crops = Augmentation(crop=side, whiten=False).evaluate(images)
    assert find_offsets(images, crops) == [offset] * 4


def test_evaluation_neither_flips_nor_changes_contrast() -> None:
    images = make_images()
    found = Augmentation(flip=True, contrast=(0.2, 1.8), whiten=False).evaluate(images)
    assert torch.equal(found, images.float() / 255)


def test_flip_mirrors_about_half_of_the_images_left_to_right() -> None:
    images = make_images(400)
    found = Augmentation(flip=True, whiten=False).train(images, make_generator(3))
    mirrored = [
        np.array_equal(new.round(), old[..., ::-1])
        for old, new in zip(as_numpy(images), as_numpy(found) * 255, strict=True)
    ]
    kept = [
        np.array_equal(new.round(), old)
        for old, new in zip(as_numpy(images), as_numpy(found) * 255, strict=True)
    ]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))
    assert 150 < sum(mirrored) < 250


def test_contrast_scales_about_each_channels_mean_by_one_factor() -> None:
    images = make_images(300)
    found = Augmentation(contrast=(0.2, 1.8), whiten=False).train(
        images, make_generator(4)
    )
    factors = []
    for old, new in zip(as_numpy(images) / 255, as_numpy(found), strict=True):
        centred = old - old.mean(axis=(1, 2), keepdims=True)
        factor = (centred * new).sum() / (centred**2).sum()
        np.testing.assert_allclose(new, twin_contrast(old, factor), atol=1e-5)
        factors.append(factor)
    assert 0.2 <= min(factors) < 0.3 and 1.7 < max(factors) < 1.8
    assert len(set(np.round(factors, 6))) > 290, "every image has a draw of its own"


def test_whitening_agrees_with_its_twin() -> None:
    images = make_images()
    found = Augmentation().evaluate(images)
    expected = np.stack([twin_whiten(x) for x in as_numpy(images) / 255])
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-5)


@given(
    level=st.integers(0, 255),
    bump=st.integers(0, 3),
    channels=st.sampled_from([1, 3]),
    side=st.integers(1, 6),
)
def test_nearly_flat_image_stays_finite_and_small(
    level: int, bump: int, channels: int, side: int
) -> None:
    images = torch.full((1, channels, side, side), level, dtype=torch.uint8)
    images[0, 0, 0, 0] = min(255, level + bump)
    found = Augmentation().evaluate(images).numpy().astype(np.float64)
    expected = twin_whiten(as_numpy(images)[0] / 255)
    np.testing.assert_allclose(found[0], expected, atol=1e-4)


def test_flat_image_becomes_zero() -> None:
    found = whiten(torch.full((2, 3, 4, 4), 0.3, dtype=torch.float64))
    torch.testing.assert_close(found, torch.zeros_like(found), atol=1e-12, rtol=0)


def test_whole_chain_agrees_with_its_twin() -> None:
    """The order is crop, flip, contrast, whiten; found by trying every draw."""
    images = make_images(6, 3, 5, 5)
    chain = Augmentation(crop=4, flip=True, contrast=(0.2, 1.8))
    found = as_numpy(chain.train(images, make_generator(5)))
    for image, new in zip(as_numpy(images) / 255, found, strict=True):
        candidates = [
            crop[..., ::step]
            for top in range(2)
            for left in range(2)
            for crop in [image[:, top : top + 4, left : left + 4]]
            for step in (1, -1)
        ]
        errors = [
            np.abs(twin_whiten(twin_contrast(candidate, factor)) - new).max()
            for candidate in candidates
            for factor in np.geomspace(0.2, 1.8, 300)
        ]
        assert min(errors) < 0.02


def test_same_generator_gives_the_same_numbers() -> None:
    images, chain = make_images(), Augmentation(5, True, (0.2, 1.8))
    first, second = (chain.train(images, make_generator("a", 7)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, chain.train(images, make_generator("a", 8)))


def test_equal_images_of_a_batch_come_out_different() -> None:
    images = make_images(1).expand(60, -1, -1, -1)
    for chain in (
        Augmentation(crop=4, whiten=False),
        Augmentation(flip=True, whiten=False),
        Augmentation(contrast=(0.5, 1.5), whiten=False),
    ):
        assert len(chain.train(images, make_generator(6)).unique(dim=0)) > 1


@pytest.mark.parametrize(
    "chain", [Augmentation(5, True, (0.2, 1.8)), Augmentation(), PLAIN]
)
def test_empty_batch_keeps_its_shape(chain: Augmentation) -> None:
    images = make_images(0)
    shape = (0, *chain.output_shape(images.shape[1:]))
    assert chain.train(images, make_generator(0)).shape == shape
    assert chain.evaluate(images).shape == shape


def test_images_are_left_as_they_were() -> None:
    images = make_images()
    before = images.clone()
    Augmentation(5, True, (0.2, 1.8)).train(images, make_generator(0))
    Augmentation(5).evaluate(images)
    assert torch.equal(images, before)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((3, 32, 32), Augmentation(24, True, (0.2, 1.8), True)),
        ((1, 28, 28), Augmentation(24, False, None, True)),
        ((1, 32, 40), Augmentation(28, False, None, True)),
        ((3, 28, 28), Augmentation(24, False, None, True)),
        ((1, 8, 8), Augmentation(None, False, None, True)),
        ((3, 64, 20), Augmentation(None, False, None, True)),
    ],
)
def test_default_depends_on_the_images(
    shape: tuple[int, int, int], expected: Augmentation
) -> None:
    assert Augmentation.for_images(shape) == expected


@pytest.mark.parametrize("crop", [-1, 0])
def test_crop_out_of_range_is_refused(crop: int) -> None:
    with pytest.raises(GradnetError, match=f"crop is {crop}; it must be >= 1"):
        Augmentation(crop=crop)


def test_crop_that_does_not_fit_is_refused() -> None:
    chain = Augmentation(crop=8)
    reason = "crop of 8 does not fit images of 7 x 9"
    for use in (
        lambda: chain.output_shape((3, 7, 9)),
        lambda: chain.evaluate(make_images()),
        lambda: chain.train(make_images(), make_generator(0)),
    ):
        with pytest.raises(GradnetError, match=reason):
            use()


@pytest.mark.parametrize(
    ("augmentation", "expected"),
    [
        (PLAIN, False),
        (Augmentation(whiten=True), False),
        (Augmentation(crop=5), True),
        (Augmentation(flip=True), True),
        (Augmentation(contrast=(0.5, 1.5)), True),
    ],
)
def test_what_is_not_random_is_the_same_in_training_and_evaluation(
    augmentation: Augmentation, expected: bool
) -> None:
    assert augmentation.is_random is expected
    images = make_images(count=20)
    trained = augmentation.train(images, make_generator(1))
    assert torch.equal(trained, augmentation.evaluate(images)) is not expected
