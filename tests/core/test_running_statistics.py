"""Statistics of one pass equal numpy's, however the rows were divided."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from reference import Array, assert_same

from gradnet.core.running_statistics import RunningStatistics
from gradnet.errors import GradnetError

ROWS = arrays(
    np.float64,
    array_shapes(min_dims=2, max_dims=2, max_side=12),
    elements=st.floats(-100, 100),
)


def assert_statistics_of(statistics: RunningStatistics, rows: Array) -> None:
    assert statistics.count == len(rows)
    assert_same(statistics.mean.numpy(), rows.mean(0))
    # Where all rows are equal, numpy's own deviation is rounding error.
    assert_same(statistics.deviation.numpy(), rows.std(0), 1e-6)
    assert_same(statistics.deviation.square().numpy(), rows.var(0))
    assert_same(statistics.minimum.numpy(), rows.min(0), 0)
    assert_same(statistics.maximum.numpy(), rows.max(0), 0)
    assert_same(statistics.max_abs.numpy(), np.abs(rows).max(0), 0)


@given(rows=ROWS)
def test_statistics_equal_numpy(rows: Array) -> None:
    statistics = RunningStatistics().update(torch.from_numpy(rows))
    assert_statistics_of(statistics, rows)


@given(rows=ROWS, data=st.data())
def test_batches_give_the_statistics_of_the_whole(
    rows: Array, data: st.DataObject
) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(rows)), max_size=4).map(sorted))
    statistics = RunningStatistics()
    for part in np.split(rows, cuts):
        statistics.update(torch.from_numpy(part))
    assert_statistics_of(statistics, rows)


@given(rows=ROWS, data=st.data())
def test_merged_parts_give_the_statistics_of_the_whole(
    rows: Array, data: st.DataObject
) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(rows)), max_size=4).map(sorted))
    parts = [
        RunningStatistics().update(torch.from_numpy(part))
        for part in np.split(rows, cuts)
    ]
    whole = RunningStatistics()
    for part in data.draw(st.permutations(parts)):
        whole.merge(part)
    assert_statistics_of(whole, rows)


@pytest.mark.parametrize("num_threads", [1, 2])
def test_columns_in_several_pieces_give_the_same(num_threads: int) -> None:
    torch.set_num_threads(num_threads)
    rows = 3 + torch.randn(501, 2003, dtype=torch.float64)[:, ::2]
    assert_statistics_of(RunningStatistics().update(rows), rows.numpy())


@given(rows=ROWS, cut=st.integers(0, 12))
def test_merging_leaves_the_other_part_as_it_was(rows: Array, cut: int) -> None:
    first = RunningStatistics().update(torch.from_numpy(rows[:cut]))
    second = RunningStatistics().update(torch.from_numpy(rows))
    whole = RunningStatistics().merge(second).merge(first)
    whole.update(torch.from_numpy(rows))
    assert whole.count == second.count * 2 + first.count
    assert_statistics_of(second, rows)


def test_leading_dimensions_are_all_rows() -> None:
    rows = torch.randn(2, 3, 4, dtype=torch.float64)
    statistics = RunningStatistics().update(rows)
    assert_statistics_of(statistics, rows.reshape(6, 4).numpy())


def test_update_leaves_the_rows_as_they_were() -> None:
    rows = torch.randn(5, 3)
    before = rows.clone()
    RunningStatistics().update(rows).update(rows)
    assert torch.equal(rows, before)


def test_later_changes_of_the_rows_change_nothing() -> None:
    rows = torch.randn(1, 3, dtype=torch.float64)
    before = rows.numpy().copy()
    statistics = RunningStatistics().update(rows)
    rows.zero_()
    assert_statistics_of(statistics, before)


def test_small_spread_about_a_large_mean_is_not_cancelled() -> None:
    # Neither a sum of float32 squares nor a float32 mean would do here.
    rows = 1e6 + torch.randn(1000, 2)
    statistics = RunningStatistics()
    for part in rows.split(130):
        statistics.update(part)
    assert_same(statistics.deviation.numpy(), rows.double().numpy().std(0), 1e-8)
    assert_same(statistics.mean.numpy(), rows.double().numpy().mean(0), 1e-12)


@given(value=st.floats(-100, 100), sizes=st.lists(st.integers(1, 9), min_size=1))
def test_equal_rows_have_no_deviation(value: float, sizes: list[int]) -> None:
    statistics = RunningStatistics()
    for size in sizes:
        statistics.update(torch.full((size, 2), value, dtype=torch.float64))
    assert statistics.deviation.tolist() == [0, 0]


def test_rows_that_need_gradients_are_taken_without() -> None:
    rows = torch.randn(3, 2, requires_grad=True)
    assert not RunningStatistics().update(rows).mean.requires_grad


def test_no_rows_change_nothing() -> None:
    rows = torch.randn(4, 3, dtype=torch.float64)
    empty = RunningStatistics().update(rows[:0])
    statistics = RunningStatistics().merge(empty).update(rows).update(rows[:0])
    assert empty.count == 0
    assert_statistics_of(statistics.merge(empty), rows.numpy())


def test_other_number_of_coordinates_is_refused() -> None:
    statistics = RunningStatistics().update(torch.randn(4, 3))
    with pytest.raises(
        GradnetError, match="3 coordinates cannot be merged with those of 2"
    ):
        statistics.update(torch.randn(4, 2))


@given(rows=ROWS, more=st.booleans())
def test_state_dict_brings_everything_back(rows: Array, more: bool) -> None:
    statistics = RunningStatistics().update(torch.from_numpy(rows))
    restored = RunningStatistics.from_state_dict(statistics.state_dict())
    if more:
        restored.update(torch.from_numpy(rows))
        rows = np.concatenate([rows, rows])
    assert_statistics_of(restored, rows)
