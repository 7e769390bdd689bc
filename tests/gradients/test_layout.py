"""Layouts name each coordinate once, in network order, and flatten without loss."""

import json
import math

import pytest
import torch
from cases import CASES
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gradnet.errors import InvalidInputError
from gradnet.gradients.layout import Block, BlockLayout

SHAPES = st.lists(st.integers(1, 3), max_size=3).map(tuple)
LAYOUTS = st.lists(
    st.lists(SHAPES, min_size=1, max_size=3), min_size=1, max_size=4
).map(
    lambda blocks: BlockLayout(
        tuple(
            Block(f"layer{i}", {f"layer{i}.p{j}": s for j, s in enumerate(shapes)})
            for i, shapes in enumerate(blocks)
        )
    )
)


def numbered(layout: BlockLayout, *leading: int) -> dict[str, torch.Tensor]:
    """Gradients that differ in every coordinate of every row."""
    torch.manual_seed(0)
    return {name: torch.randn((*leading, *s)) for name, s in layout.shapes.items()}


@given(layout=LAYOUTS, leading=st.sampled_from([(), (3,), (2, 3), (0, 2)]))
def test_flatten_and_split_lose_nothing(
    layout: BlockLayout, leading: tuple[int, ...]
) -> None:
    gradients = numbered(layout, *leading)
    flat = layout.flatten(gradients)
    assert flat.shape == (*leading, layout.size)
    restored = layout.from_blocks(layout.split(flat))
    assert list(restored) == list(gradients)
    for name, gradient in gradients.items():
        assert torch.equal(restored[name], gradient)


@given(layout=LAYOUTS)
def test_flattened_coordinates_follow_network_order(layout: BlockLayout) -> None:
    gradients = numbered(layout, 2)
    parts = [gradients[name].reshape(2, -1) for name in layout.shapes]
    assert torch.equal(layout.flatten(gradients), torch.cat(parts, 1))


@given(layout=LAYOUTS)
def test_slices_cover_all_coordinates_once(layout: BlockLayout) -> None:
    covered = [i for place in layout.slices.values() for i in range(layout.size)[place]]
    assert covered == list(range(layout.size))
    assert layout.size == sum(math.prod(shape) for shape in layout.shapes.values())


@given(layout=LAYOUTS)
def test_layout_survives_json(layout: BlockLayout) -> None:
    assert BlockLayout.from_dict(json.loads(json.dumps(layout.to_dict()))) == layout


@pytest.mark.parametrize("case", CASES)
def test_layout_counts_every_parameter_once(case: str) -> None:
    model = CASES[case]().model
    layout = BlockLayout.of(model, biases=True)
    assert layout.size == sum(p.numel() for p in model.parameters())
    assert layout.shapes == {n: tuple(p.shape) for n, p in model.named_parameters()}


def test_weights_are_read_without_biases_by_default() -> None:
    layout = BlockLayout.of(CASES["cnn"]().model)
    assert layout.names == ("conv0", "conv1", "linear")
    assert list(layout.shapes) == ["conv0.weight", "conv1.weight", "linear.weight"]
    assert layout.sizes == (2 * 2 * 9, 2 * 2 * 9, 2 * 3)


def test_bias_joins_the_block_of_its_layer() -> None:
    layout = BlockLayout.of(CASES["mlp"]().model, biases=True)
    assert layout.names == ("linear0", "linear1", "linear2")
    assert layout.sizes == (4 * 3 + 3, 3 * 4 + 4, 4 * 3 + 3)


def test_biases_of_attention_are_left_out_too() -> None:
    layout = BlockLayout.of(nn.MultiheadAttention(4, 2))
    assert list(layout.shapes) == ["in_proj_weight", "out_proj.weight"]


def test_tied_weight_belongs_to_its_first_layer() -> None:
    assert BlockLayout.of(CASES["shared"]().model).names == ("twice", "last")


def test_frozen_layer_is_read_only_when_named() -> None:
    model = CASES["cnn"]().model
    model.conv0.requires_grad_(False)
    assert BlockLayout.of(model).names == ("conv1", "linear")
    assert BlockLayout.of(model, "conv*").names == ("conv0", "conv1")


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        ("conv?", ("conv0", "conv1")),
        (["linear", "conv0"], ("conv0", "linear")),
        (["conv*", "conv0"], ("conv0", "conv1")),
        ("*", ("conv0", "conv1", "linear")),
    ],
)
def test_patterns_choose_layers_in_network_order(
    patterns: str | list[str], names: tuple[str, ...]
) -> None:
    model = CASES["cnn"]().model
    assert BlockLayout.of(model, patterns).names == names
    assert BlockLayout.of(model).select(patterns).names == names


def test_pattern_without_a_layer_is_refused_by_name() -> None:
    with pytest.raises(InvalidInputError, match="'Conv0'.*conv0, conv1, linear"):
        BlockLayout.of(CASES["cnn"]().model, ["linear", "Conv0"])


def test_model_without_trainable_weights_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="no trainable weights.*layers"):
        BlockLayout.of(nn.Linear(2, 2).requires_grad_(False))


def test_flat_tensor_of_another_size_is_refused() -> None:
    layout = BlockLayout.of(nn.Linear(2, 3))
    with pytest.raises(InvalidInputError, match="6 coordinates, the tensor 7"):
        layout.split(torch.zeros(2, 7))


def test_block_of_one_parameter_is_a_view() -> None:
    layout = BlockLayout.of(nn.Linear(2, 3))
    gradient = torch.zeros(4, 3, 2)
    layout.to_blocks({"weight": gradient})[""].fill_(1)
    assert (gradient == 1).all()
