"""The residual networks: layout as published, and blocks that can start at zero."""

import pytest
import torch
from reference import assert_same
from torch import nn
from torch.nn import functional

from gradnet.errors import InvalidInputError
from gradnet.models.resnet import (
    STAGES,
    NormalizedBlock,
    PreactivationBlock,
    ResNet,
    block_channels,
    initialize_glorot_uniform,
)

WIDTHS = [64] * 2 + [128] * 5 + [256] * 5 + [512] * 2


def test_children_stand_in_the_published_order():
    blocks = [f"{kind}{index}" for index in range(14) for kind in ("block", "norm")]
    stem = ["stem_norm0", "stem", "stem_relu", "stem_norm1"]
    names = [name for name, _ in ResNet(width=2).named_children()]
    assert names == [*stem, *blocks, "pool", "flatten", "head"]


def test_blocks_have_the_published_channels_and_strides():
    assert block_channels(64, STAGES) == WIDTHS
    model, previous = ResNet(), 64
    for index, width in enumerate(WIDTHS):
        block = model.get_submodule(f"block{index}")
        halves = index in (2, 7, 12)
        first, last = block.residual.conv0, block.residual.conv1
        assert list(dict(block.residual.named_children())) == [
            *("conv0", "relu", "norm", "conv1")
        ]
        assert (first.in_channels, first.out_channels) == (previous, width)
        assert (last.in_channels, last.out_channels) == (width, width)
        assert first.stride == ((2, 2) if halves else (1, 1)) and last.stride == (1, 1)
        if halves:
            shortcut = block.shortcut
            assert (shortcut.kernel_size, shortcut.stride) == ((1, 1), (2, 2))
            assert (shortcut.in_channels, shortcut.out_channels) == (previous, width)
        else:
            assert isinstance(block.shortcut, nn.Identity)
        previous = width
    assert model.head.in_features == 512 * 2 * 2


def test_norms_and_weights_start_as_in_keras():
    model = ResNet(width=16)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 2 + 2 * 14
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == 1 + 2 * 14 + 3 + 1
    for layer in layers:
        assert layer.bias is not None and not layer.bias.any()
        weight = layer.weight
        area = weight[0, 0].numel()
        bound = (6 / ((weight.shape[0] + weight.shape[1]) * area)) ** 0.5
        largest = weight.abs().max().item()
        assert 0.9 * bound < largest <= bound * (1 + 1e-6)


def test_a_published_block_is_what_its_formula_says():
    model = ResNet(width=3, stages=[1, 1], image_size=8).double().eval()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    block = model.block1
    inner = functional.relu(block.residual.conv0(x))
    inner = block.residual.conv1(block.residual.norm(inner))
    expected = functional.relu(block.shortcut(x) + inner)
    assert block(x).shape == (2, 6, 4, 4)
    assert_same(block(x), expected)


@pytest.mark.parametrize("style", ["published", "preactivation", "normalized"])
@pytest.mark.parametrize("blocks", [1, 2, 3, None])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_become_logits(style, blocks, channels):
    model = ResNet(
        channels, 8, 7, width=2, stages=[1, 2, 1], blocks=blocks, style=style
    )
    x = torch.randn(3, channels, 8, 8)
    assert model(x).shape == (3, 7)
    assert model.blocks == (blocks or 4) and model.style == style
    present = [n for n, _ in model.named_children() if n.startswith("block")]
    assert present == [f"block{index}" for index in range(blocks or 4)]


def test_the_published_head_takes_images_of_odd_size():
    for size in (5, 6, 7):
        model = ResNet(1, size, 3, width=2, stages=[1, 1, 1])
        assert model(torch.randn(2, 1, size, size)).shape == (2, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"blocks": 0}, "blocks is 0; it must be >= 1"),
        ({"blocks": 15}, "blocks is 15; stages .* allow 1 to 14"),
        ({"style": "wild"}, "style is 'wild'; it must be published, preactivation or"),
        (
            {"style": "preactivation", "image_size": 12},
            "images of 12 x 12 cannot be halved .*: 3 pixels are odd; use",
        ),
    ],
)
def test_invalid_arguments_are_refused(arguments, message):
    with pytest.raises(InvalidInputError, match=message):
        ResNet(width=2, **arguments)


def zero_conv(block):
    nn.init.zeros_(block.residual.conv1.weight)


def zero_norm(block):
    nn.init.zeros_(block.residual.norm1.weight)
    nn.init.zeros_(block.residual.norm1.bias)


KINDS = [(PreactivationBlock, zero_conv), (NormalizedBlock, zero_norm)]


@pytest.mark.parametrize(("kind", "make_zero"), KINDS)
@pytest.mark.parametrize("outputs", [4, 8], ids=["kept size", "halved"])
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_a_block_with_a_zero_end_keeps_means_and_logits(
    kind, make_zero, outputs, training
):
    block = kind(4, outputs).double().train(training)
    make_zero(block)
    x = torch.randn(5, 4, 6, 6, dtype=torch.float64)
    y = block(x)
    assert y.shape == (5, outputs, *((6, 6) if outputs == 4 else (3, 3)))
    if outputs == 4:
        assert torch.equal(y, x)
    means = y.mean((2, 3))
    assert_same(means[:, :4], x.mean((2, 3)))
    assert not means[:, 4:].any()
    old = nn.Linear(4, 3).double()
    new = nn.Linear(outputs, 3).double()
    with torch.no_grad():
        new.weight[:, :4], new.bias[:] = old.weight, old.bias
    assert_same(new(means), old(x.mean((2, 3))))


@pytest.mark.parametrize("outputs", [4, 8], ids=["kept size", "halved"])
def test_only_a_block_with_one_zero_convolution_can_learn(outputs):
    gradients = []
    for zeros in (["conv1"], ["conv0", "conv1"]):
        block = PreactivationBlock(4, outputs).double()
        for name in zeros:
            nn.init.zeros_(block.residual.get_submodule(name).weight)
        x = torch.randn(5, 4, 6, 6, dtype=torch.float64)
        (block(x) * torch.randn(outputs, 1, 1, dtype=torch.float64)).sum().backward()
        residual = block.residual
        gradients.append([residual.conv0.weight.grad, residual.conv1.weight.grad])
    (first, last), dead = gradients
    assert not first.any() and last.abs().max() > 1e-3
    # relu'(0) = 0, and the norm of a constant is its bias, which starts at zero.
    assert not any(gradient.any() for gradient in dead)


def test_a_normalized_block_learns_by_the_scale_and_shift_of_its_last_norm():
    block = NormalizedBlock(4, 4).double()
    zero_norm(block)
    x = torch.randn(5, 4, 6, 6, dtype=torch.float64)
    (block(x) * torch.randn(4, 6, 6, dtype=torch.float64)).sum().backward()
    residual = block.residual
    assert not residual.conv0.weight.grad.any() and not residual.conv1.weight.grad.any()
    assert residual.norm1.weight.grad.abs().max() > 1e-3
    assert residual.norm1.bias.grad.abs().max() > 1e-3


def test_only_convolutions_and_linear_layers_are_initialized_as_keras_does():
    norm = nn.BatchNorm2d(3)
    nn.init.constant_(norm.weight, 5.0)
    initialize_glorot_uniform(nn.Sequential(norm, nn.Conv2d(3, 2, 1, bias=False)))
    assert norm.weight.tolist() == [5.0] * 3


def test_weights_are_fixed_by_torchs_seed():
    models = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        models.append(ResNet(width=2).block5.residual.conv0.weight)
    assert torch.equal(models[0], models[1]) and not torch.equal(models[0], models[2])
