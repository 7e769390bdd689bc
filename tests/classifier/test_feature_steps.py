"""Every step of a feature map equals numpy, in place and in every type."""

import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from reference import Array, assert_same

from gradnet.classifier.feature_steps import (
    Scale,
    SelectLargest,
    SignedPower,
    Step,
    UnitNorm,
)
from gradnet.errors import InvalidInputError, NotFittedError

# Few different values, so that ties and zeros are common.
VALUES = st.integers(-24, 24).map(lambda value: value / 8)
SHAPES = array_shapes(min_dims=1, max_dims=3, max_side=9)
BLOCKS = arrays(np.float64, SHAPES, elements=VALUES)
PERCENTS = st.integers(1, 99) | st.sampled_from([0.1, 2.5, 15.0, 99.9])
KINDS = pytest.mark.parametrize("kind", Scale.KINDS)


def apply(step: Step, block: Array) -> Array:
    return step.apply("block", torch.from_numpy(block.copy())).numpy()


def fitted(kind: str, training: Array) -> Scale:
    scale = Scale(kind)
    scale.update("block", torch.from_numpy(training))
    return scale


def random_rows(*shape: int) -> Array:
    return np.random.default_rng(0).normal(size=shape)


@given(block=BLOCKS, percent=PERCENTS)
def test_selection_keeps_what_is_above_the_percentile(
    block: Array, percent: float
) -> None:
    expected = reference.select_largest(block, percent)
    assert_same(apply(SelectLargest(percent), block), expected, 0)


def test_selection_of_known_numbers() -> None:
    block = np.array([[3.0, -4.0, 1.0, 2.0, -5.0], [1.0, 1.0, 1.0, 1.0, 2.0]])
    expected = [[0.0, -4.0, 0.0, 0.0, -5.0], [0.0, 0.0, 0.0, 0.0, 2.0]]
    assert apply(SelectLargest(50), block).tolist() == expected


def test_selection_counts_right_where_percents_are_not_exact() -> None:
    # A fifth of the five steps between six numbers is one; in floats, a little less.
    block = np.arange(1.0, 7.0)
    expected = [0.0, 0.0, 3.0, 4.0, 5.0, 6.0]
    assert apply(SelectLargest(80), block).tolist() == expected


@given(
    seed=st.integers(0, 99),
    zeros=st.sampled_from([0.0, 0.8, 0.95, 1.0]),
    digits=st.sampled_from([1, 2, 12]),
    percent=PERCENTS,
)
def test_selection_in_long_rows_with_ties(
    seed: int, zeros: float, digits: int, percent: float
) -> None:
    rng = np.random.default_rng(seed)
    block = np.round(rng.normal(size=(2, 2, 3001)), digits)
    block *= rng.random(block.shape) >= zeros
    expected = reference.select_largest(block, percent)
    assert_same(apply(SelectLargest(percent), block), expected, 0)


@pytest.mark.parametrize("value", [0.0, -2.5])
@pytest.mark.parametrize("size", [1, 2, 5000])
def test_selection_drops_all_where_all_are_equal(value: float, size: int) -> None:
    assert not apply(SelectLargest(15), np.full((2, size), value)).any()


TYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_selection_is_exact_in_every_type(dtype: torch.dtype) -> None:
    # In bfloat16, hundreds of the coordinates tie at the threshold.
    block = torch.randn(3, 40000).to(dtype)
    expected = reference.select_largest(block.double().numpy(), 15)
    selected = SelectLargest(15).apply("block", block)
    assert selected.dtype == dtype
    assert_same(selected.double().numpy(), expected, 0)


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_selection_on_a_gpu_is_the_same(dtype: torch.dtype) -> None:
    block = torch.randn(2, 3, 5000).to(dtype)
    expected = SelectLargest(15).apply("block", block.clone())
    assert_same(SelectLargest(15).apply("block", block.cuda()).cpu(), expected, 0)


def test_selection_never_hides_what_is_not_a_number() -> None:
    block = torch.randn(1, 2000)
    block[0, 7] = torch.nan
    assert SelectLargest(15).apply("block", block)[0, 7].isnan()


@given(block=BLOCKS)
def test_selection_of_everything_keeps_ties_too(block: Array) -> None:
    assert_same(apply(SelectLargest(100), block), block, 0)


@pytest.mark.parametrize("percent", [0, -1, 100.5, float("nan")])
def test_percent_out_of_range_is_refused(percent: float) -> None:
    with pytest.raises(InvalidInputError, match=f"percent is {percent}"):
        SelectLargest(percent)


@KINDS
@given(data=st.data())
def test_scaling_equals_numpy(kind: str, data: st.DataObject) -> None:
    shapes = array_shapes(min_dims=2, max_dims=3, max_side=5)
    training = data.draw(arrays(np.float64, shapes, elements=VALUES))
    shape = (3, training.shape[-1])
    block = data.draw(arrays(np.float64, shape, elements=VALUES))
    expected = reference.scale(block, training, kind)
    assert_same(apply(fitted(kind, training), block), expected)


@KINDS
def test_zeros_stay_zero(kind: str) -> None:
    block = np.zeros((2, 3))
    assert not apply(fitted(kind, 1 + random_rows(5, 3) ** 2), block).any()


@KINDS
def test_coordinate_that_never_varied_is_divided_by_one(kind: str) -> None:
    block = np.array([[3.0]])
    constant = 0.0 if kind in ("std", "max-abs") else 2.0
    expected = 3.0 - constant
    assert apply(fitted(kind, np.full((4, 1), constant)), block) == expected


@KINDS
def test_spread_too_small_to_divide_by_counts_as_none(kind: str) -> None:
    training = torch.tensor([[0.0], [1e-42]])
    scale = Scale(kind)
    scale.update("block", training)
    block = torch.tensor([[0.0], [0.5], [1e-42]])
    assert_same(scale.apply("block", block.clone()), block, 1e-30)


def test_min_max_maps_training_values_to_the_unit_interval() -> None:
    training = random_rows(20, 6)
    scaled = apply(fitted("min-max", training), training)
    assert_same(scaled.min(0), np.zeros(6))
    assert_same(scaled.max(0), np.ones(6))


@KINDS
@given(cut=st.integers(0, 8), seed=st.integers(0, 99))
def test_scalings_fitted_apart_merge_to_one(kind: str, cut: int, seed: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(8, 3))
    merged = fitted(kind, rows[:cut])
    merged.merge(fitted(kind, rows[cut:]))
    assert_same(apply(merged, rows), apply(fitted(kind, rows), rows))


@KINDS
def test_fitting_on_after_a_transform_counts(kind: str) -> None:
    rows = random_rows(8, 3) * np.arange(1, 9)[:, None]
    scale = fitted(kind, rows[:4])
    early = apply(scale, rows)
    scale.update("block", torch.from_numpy(rows[4:]))
    assert_same(apply(scale, rows), apply(fitted(kind, rows), rows))
    assert not np.allclose(apply(scale, rows), early)


@KINDS
def test_merging_after_a_transform_counts(kind: str) -> None:
    rows = random_rows(8, 3) * np.arange(1, 9)[:, None]
    scale = fitted(kind, rows[:4])
    apply(scale, rows)
    scale.merge(fitted(kind, rows[4:]))
    assert_same(apply(scale, rows), apply(fitted(kind, rows), rows))


def test_scaling_of_a_block_never_seen_is_refused() -> None:
    with pytest.raises(NotFittedError, match="not fitted for block 'conv9'"):
        Scale("std").apply("conv9", torch.ones(1, 2))


def test_scaling_of_a_block_of_another_size_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="has 4 coordinates.*fitted on 3"):
        apply(fitted("std", random_rows(5, 3)), np.ones((1, 4)))


def test_unknown_scaling_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="no scaling 'robust'"):
        Scale("robust")


@given(block=BLOCKS)
def test_unit_norm_equals_numpy(block: Array) -> None:
    assert_same(apply(UnitNorm(), block), reference.unit_norm(block), 1e-14)


@given(block=BLOCKS, exponent=st.sampled_from([0.5, 1.0, 2.0, 0.3]))
def test_signed_power_equals_numpy(block: Array, exponent: float) -> None:
    expected = reference.signed_power(block, exponent)
    assert_same(apply(SignedPower(exponent), block), expected, 1e-14)


@pytest.mark.parametrize("exponent", [0, -0.5, float("nan")])
def test_exponent_that_is_not_positive_is_refused(exponent: float) -> None:
    with pytest.raises(InvalidInputError, match=f"exponent is {exponent}"):
        SignedPower(exponent)
