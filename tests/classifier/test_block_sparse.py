"""The block-sparse layer is a dense layer whose matrix is zero outside the windows."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import Array, assert_same, block_sparse_matrix
from torch import Tensor
from torch.nn import functional

from gradnet.classifier.block_sparse import BlockSparseLinear
from gradnet.errors import InvalidInputError

SIZES = {"conv0": 3, "conv1": 1, "linear": 4}
WINDOWS = pytest.mark.parametrize("window", [1, 2, 3])


def make_layer(
    sizes: dict[str, int], hidden: int | list[int], window: int, bias: bool = True
) -> BlockSparseLinear:
    """A layer in float64, its biases random too."""
    layer = BlockSparseLinear(sizes, hidden, window, bias).double()
    if layer.bias is not None:
        torch.nn.init.normal_(layer.bias)
    return layer


def random_blocks(sizes: dict[str, int], *leading: int) -> dict[str, Tensor]:
    return {
        name: torch.randn(*leading, size, dtype=torch.float64, requires_grad=True)
        for name, size in sizes.items()
    }


def matrix_of(layer: BlockSparseLinear) -> Array:
    weights = [weight.detach().numpy() for weight in layer.weights]
    sizes = list(layer.block_sizes.values())
    return block_sparse_matrix(sizes, layer.hidden, layer.window, weights)


@given(data=st.data(), bias=st.booleans())
def test_layer_equals_its_matrix_for_every_window(
    data: st.DataObject, bias: bool
) -> None:
    sizes = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    window = data.draw(st.integers(1, len(sizes)))
    groups = len(sizes) - window + 1
    units = st.lists(st.integers(1, 3), min_size=groups, max_size=groups)
    named = {f"block{i}": size for i, size in enumerate(sizes)}
    layer = make_layer(named, data.draw(units), window, bias)
    blocks = random_blocks(named, *data.draw(st.sampled_from([(2,), (2, 3), (0, 1)])))
    expected = torch.cat(list(blocks.values()), -1) @ torch.tensor(matrix_of(layer)).T
    if layer.bias is not None:
        expected = expected + layer.bias
    assert_same(layer(blocks), expected)


@WINDOWS
def test_derivatives_equal_those_of_the_masked_matrix(window: int) -> None:
    layer, blocks = make_layer(SIZES, 2, window), random_blocks(SIZES, 5, 2)
    flat = torch.cat([block.detach() for block in blocks.values()], -1)
    flat.requires_grad_()
    matrix = torch.tensor(matrix_of(layer), requires_grad=True)
    cotangent = torch.randn(5, 2, layer.out_features, dtype=torch.float64)
    layer(blocks).backward(cotangent)
    functional.linear(flat, matrix, layer.bias).backward(cotangent)
    weights = [weight.grad.numpy() for weight in layer.weights]
    actual = block_sparse_matrix(list(SIZES.values()), layer.hidden, window, weights)
    # What the mask holds at zero has a derivative too, in the dense layer only.
    assert_same(actual, matrix.grad.numpy() * (matrix_of(layer) != 0))
    assert_same(torch.cat([block.grad for block in blocks.values()], -1), flat.grad)


@WINDOWS
@pytest.mark.parametrize("bias", [True, False])
def test_the_dense_layer_holds_the_matrix(window: int, bias: bool) -> None:
    layer, blocks = make_layer(SIZES, 2, window, bias), random_blocks(SIZES, 5, 2)
    dense = layer.to_dense()
    assert_same(dense.weight.detach().numpy(), matrix_of(layer), 0)
    assert (dense.bias is None) == (layer.bias is None)
    assert_same(dense(torch.cat(list(blocks.values()), -1)), layer(blocks))


@WINDOWS
def test_group_sees_its_window_only(window: int) -> None:
    layer, blocks = make_layer(SIZES, 1, window), random_blocks(SIZES, 1)
    before = layer(blocks)
    for index, name in enumerate(SIZES):
        changed = layer({**blocks, name: blocks[name] + 1})
        seen = (changed != before).flatten().tolist()
        expected = [group <= index < group + window for group in range(len(seen))]
        assert seen == expected


@WINDOWS
def test_no_weight_lies_outside_the_windows(window: int) -> None:
    layer = BlockSparseLinear(SIZES, 2, window)
    sizes = list(SIZES.values())
    windows = [sum(sizes[i : i + window]) for i in range(len(sizes) - window + 1)]
    weights = sum(weight.numel() for weight in layer.weights)
    assert weights == sum(2 * size for size in windows)


def test_each_group_may_have_its_own_number_of_units() -> None:
    layer = BlockSparseLinear(SIZES, [5, 1, 2])
    assert layer.out_features == 8
    assert layer.groups == [("conv0",), ("conv1",), ("linear",)]
    assert [tuple(w.shape) for w in layer.weights] == [(5, 3), (1, 1), (2, 4)]


def test_blocks_are_found_by_name_not_by_place() -> None:
    layer, blocks = make_layer(SIZES, 2, 2), random_blocks(SIZES, 3)
    shuffled = {name: blocks[name] for name in reversed(SIZES)}
    assert_same(layer(shuffled), layer(blocks), 0)


def test_new_weights_have_the_spread_of_their_fan_in() -> None:
    layer = BlockSparseLinear({"a": 300, "b": 100}, 50, window=2)
    for weight in layer.weights:
        assert weight.std().item() == pytest.approx(400**-0.5, rel=0.05)
    layer.reset_parameters(std=0.02)
    for weight in layer.weights:
        assert weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert not layer.bias.any()


@pytest.mark.parametrize("window", [-1, 0, 4])
def test_window_that_does_not_fit_is_refused(window: int) -> None:
    with pytest.raises(
        InvalidInputError, match=f"window of {window} does not fit 3 blocks"
    ):
        BlockSparseLinear(SIZES, 2, window)


@pytest.mark.parametrize(
    ("hidden", "window"), [([1, 2], 1), ([1, 2, 3], 2), ([1, 0, 2], 1), (0, 1), ([], 1)]
)
def test_units_that_do_not_fit_the_groups_are_refused(
    hidden: int | list[int], window: int
) -> None:
    with pytest.raises(InvalidInputError, match="each of the [23] groups.*conv0"):
        BlockSparseLinear(SIZES, hidden, window)


@WINDOWS
def test_layer_prints_its_groups(window: int) -> None:
    first = str(tuple(itertools.islice(SIZES, window)))
    assert first in repr(BlockSparseLinear(SIZES, 2, window))


def test_reference_matrix_of_known_numbers() -> None:
    weights = [
        np.array([[1.0, 2.0]]),
        np.array([[3.0]]),
        np.array([[4.0]]),
        5 + np.eye(1),
    ]
    matrix = block_sparse_matrix([2, 1, 1], [1, 1], 2, weights)
    assert matrix.tolist() == [[1, 2, 3, 0], [0, 0, 4, 6]]
