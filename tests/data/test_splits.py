"""The four parts of the training set: disjoint, complete, halves, seeded."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradnet.data.splits import Splits, make_splits
from gradnet.errors import GradnetError

PARTS = ("base_train", "base_validation", "gradnet_train", "gradnet_validation")


def parts_of(splits: Splits) -> list[torch.Tensor]:
    return [getattr(splits, name) for name in PARTS]


@given(
    count=st.integers(40, 500), seed=st.integers(0, 99), fraction=st.floats(0.1, 0.9)
)
def test_parts_are_disjoint_cover_all_and_halve(
    count: int, seed: int, fraction: float
) -> None:
    splits = make_splits(count, seed, fraction)
    together = torch.cat(parts_of(splits))
    assert torch.equal(together.sort().values, torch.arange(count))
    sizes = [len(part) for part in parts_of(splits)]
    assert sizes[0] + sizes[1] == count // 2
    assert sizes[2] + sizes[3] == count - count // 2
    assert sizes[1] == sizes[3] == round(count // 2 * fraction)
    assert min(sizes) > 0


def test_halves_of_cifar10_are_those_of_the_study() -> None:
    sizes = [len(part) for part in parts_of(make_splits(50_000))]
    assert sizes == [22_500, 2_500, 22_500, 2_500]


def test_images_are_shuffled() -> None:
    assert int((make_splits(1000).base_train < 500).sum()) in range(150, 300)


def test_same_seed_gives_the_same_parts() -> None:
    first, second = make_splits(100, 3, 0.2), make_splits(100, 3, 0.2)
    for one, other in zip(parts_of(first), parts_of(second), strict=True):
        assert torch.equal(one, other)
    assert first.fingerprint == second.fingerprint
    assert (first.seed, first.validation_fraction) == (3, 0.2)


def test_split_does_not_touch_the_global_generator() -> None:
    before = torch.get_rng_state()
    make_splits(100)
    assert torch.equal(torch.get_rng_state(), before)


def test_fingerprint_changes_with_seed_count_and_fraction() -> None:
    found = {
        make_splits(count, seed, fraction).fingerprint
        for count in (100, 101)
        for seed in (0, 1)
        for fraction in (0.1, 0.2)
    }
    assert len(found) == 8


@pytest.mark.parametrize("name", PARTS)
def test_fingerprint_changes_with_any_part(name: str) -> None:
    splits = make_splits(100)
    changed = dataclasses.replace(splits, **{name: getattr(splits, name).flip(0)})
    assert changed.fingerprint != splits.fingerprint


def test_fingerprint_sees_an_index_move_between_parts() -> None:
    splits = make_splits(100)
    both = torch.cat([splits.base_train, splits.base_validation])
    moved = dataclasses.replace(splits, base_train=both[:44], base_validation=both[44:])
    assert moved.fingerprint != splits.fingerprint


@pytest.mark.parametrize(("count", "fraction"), [(0, 0.1), (1, 0.5), (9, 0.1)])
def test_too_few_images_are_refused(count: int, fraction: float) -> None:
    with pytest.raises(GradnetError, match=f"^{count} training images are too few"):
        make_splits(count, validation_fraction=fraction)


def test_holding_out_everything_is_refused() -> None:
    with pytest.raises(GradnetError, match="too few to hold out 0.99"):
        make_splits(20, validation_fraction=0.99)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_fraction_outside_its_range_is_refused(fraction: float) -> None:
    with pytest.raises(GradnetError, match="validation_fraction is .*> 0 and < 1"):
        make_splits(100, validation_fraction=fraction)
