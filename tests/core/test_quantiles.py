"""The magnitude of every rank equals that of sorted magnitudes, whatever the sample."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gradnet.core import quantiles as order_statistics
from gradnet.core.quantiles import magnitude_of_rank

SIZES = [1, 2, 512, 513, 4000]


def assert_ranks(rows: Tensor, ranks: list[int]) -> None:
    ordered = rows.abs().sort(dim=-1).values
    for rank in ranks:
        assert torch.equal(magnitude_of_rank(rows, rank), ordered[:, rank]), rank


def ranks_of(size: int) -> list[int]:
    shares = (0, 0.001, 0.15, 0.5, 0.85, 0.97, 0.999, 1)
    return sorted({int(share * (size - 1)) for share in shares})


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_every_rank_in_every_type(size: int, dtype: torch.dtype) -> None:
    assert_ranks(torch.randn(3, size).to(dtype), ranks_of(size))


@given(
    seed=st.integers(0, 999),
    size=st.integers(500, 9000),
    digits=st.integers(0, 4),
    zeros=st.sampled_from([0.0, 0.5, 0.849, 0.851, 0.99, 1.0]),
    power=st.sampled_from([0.1, 1, 9]),
    share=st.floats(0, 1),
)
def test_ties_zeros_and_tails(
    seed: int, size: int, digits: int, zeros: float, power: float, share: float
) -> None:
    rng = np.random.default_rng(seed)
    values = np.round(np.abs(rng.normal(size=(2, size))) ** power, digits)
    values *= rng.choice([-1, 1], values.shape) * (rng.random(values.shape) >= zeros)
    rank = round(share * (size - 1))
    assert_ranks(torch.from_numpy(values), [rank, int(0.85 * (size - 1))])


@pytest.mark.parametrize("value", [0.0, 1.0, -3.5, math.inf, 3e38, 1e-45])
@pytest.mark.parametrize("size", SIZES)
def test_all_equal(value: float, size: int) -> None:
    assert_ranks(torch.full((2, size), value), ranks_of(size))


@pytest.mark.parametrize("order", [1, -1])
def test_ordered_rows(order: int) -> None:
    rows = (order * torch.arange(9000.0)).exp2_().log1p_().expand(2, -1)
    assert_ranks(rows, ranks_of(9000))


def test_extreme_and_infinite_values() -> None:
    rows = torch.randn(4, 6000)
    rows[1] *= 3e38 / rows[1].abs().max()
    rows[2, ::3] = torch.inf
    rows[3] *= 1e-44
    assert_ranks(rows, ranks_of(6000))


def test_a_sample_that_misses_costs_no_exactness(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The sample sees only the first coordinates, which are nothing like the others.
    monkeypatch.setattr(
        order_statistics, "_sample_indices", lambda size: np.arange(512)
    )
    for factor in (0.0, 1e-3, 1e3):
        rows = torch.randn(2, 5000)
        rows[:, :512] *= factor
        assert_ranks(rows, ranks_of(5000))


def test_strided_rows_are_read_and_left_as_they_were() -> None:
    rows = torch.randn(4000, 3).t()[:, ::2]
    before = rows.clone()
    assert_ranks(rows, ranks_of(2000))
    assert torch.equal(rows, before)


def test_no_rows_have_no_magnitude() -> None:
    assert magnitude_of_rank(torch.empty(0, 700), 3).shape == (0,)


def test_rows_that_need_gradients_are_read_without() -> None:
    rows = torch.randn(2, 700, requires_grad=True)
    assert not magnitude_of_rank(rows, 600).requires_grad


def test_hardly_anything_is_left_to_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    left = []
    select = order_statistics._Bracket.select

    def record(bracket: order_statistics._Bracket) -> object:
        left.append(bracket.inside)
        return select(bracket)

    monkeypatch.setattr(order_statistics._Bracket, "select", record)
    for power in (1, 3):
        assert_ranks(torch.randn(20, 100_000) ** power, [85_000])
    assert len(left) == 40
    assert max(left) <= 1024


def test_samples_differ_by_size_and_lie_inside() -> None:
    for size, other in pairwise((513, 4800, 102_400)):
        places = order_statistics._sample_indices(size)
        assert places.min() >= 0
        assert places.max() < size
        assert places.max() < order_statistics._sample_indices(other).max()
