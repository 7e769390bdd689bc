"""The 2018 CNN has the sizes of the study; images too small for it are refused."""

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn

from gradnet.errors import InvalidInputError
from gradnet.models.cnn import CNN, cnn2018, cnn_small


def output_shapes(model: CNN, image_size: int) -> dict[str, tuple[int, ...]]:
    x = torch.zeros(1, model.conv0.in_channels, image_size, image_size)
    shapes = {}
    for name, layer in model.named_children():
        x = layer(x)
        shapes[name] = tuple(x.shape[1:])
    return shapes


def count(model: nn.Module, kind: str = "") -> int:
    named = model.named_parameters()
    return sum(p.numel() for name, p in named if name.endswith(kind))


def test_network_of_2018_has_its_numbers() -> None:
    model = cnn2018()
    assert count(model) == 130_378
    assert count(model, "weight") == 130_240
    sizes = [p.numel() for name, p in model.named_parameters() if "weight" in name]
    assert sizes == [4_800, 102_400, 23_040]


def test_network_of_2018_has_its_output_shapes() -> None:
    shapes = output_shapes(cnn2018(), 24)
    assert shapes["conv0"] == (64, 22, 22)
    assert shapes["pool0"] == (64, 11, 11)
    assert shapes["conv1"] == (64, 11, 11)
    assert shapes["pool1"] == (64, 6, 6)
    assert shapes["flatten"] == (2304,)
    assert shapes["linear"] == (10,)


@pytest.mark.parametrize(("width", "weights"), [(16, 13_360), (32, 39_520)])
def test_width_gives_the_sizes_of_the_narrow_networks(width: int, weights: int) -> None:
    model = cnn2018(width=width)
    assert count(model, "weight") == weights
    assert (model.conv0.out_channels, model.conv1.out_channels) == (width, width)


def test_grey_images_have_the_blocks_of_the_mnist_network() -> None:
    model = cnn2018(in_channels=1, image_size=28)
    sizes = [p.numel() for name, p in model.named_parameters() if "weight" in name]
    assert sizes == [1_600, 102_400, 31_360]


def test_small_network_fits_digits() -> None:
    model = cnn_small()
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert model.conv0.kernel_size == (3, 3)
    assert model.linear.in_features == 16 * 2 * 2


@example(image_size=1, kernel_size=1, paddings=(0, 1))
@given(
    image_size=st.integers(1, 40),
    kernel_size=st.integers(1, 7),
    paddings=st.tuples(st.integers(0, 3), st.integers(0, 3)),
)
def test_network_is_refused_exactly_when_nothing_would_be_left(
    image_size: int, kernel_size: int, paddings: tuple[int, int]
) -> None:
    first = (image_size + 2 * paddings[0] - kernel_size + 1) // 2
    second = first + 2 * paddings[1] - kernel_size + 1
    fits = first >= 1 and second >= 1
    try:
        model = CNN(1, image_size, 3, 2, kernel_size, paddings)
    except InvalidInputError as error:
        assert not fits
        assert f"images of {image_size} x {image_size} are too small" in str(error)
    else:
        assert fits
        assert model(torch.zeros(1, 1, image_size, image_size)).shape == (1, 3)


@pytest.mark.parametrize(("make", "smallest"), [(cnn2018, 4), (cnn_small, 2)])
def test_smallest_images_are_known(make: type[CNN], smallest: int) -> None:
    model = make(in_channels=3, image_size=smallest)
    assert model(torch.zeros(1, 3, smallest, smallest)).shape == (1, 10)
    with pytest.raises(InvalidInputError, match="too small for this CNN; use .*mlp"):
        make(in_channels=3, image_size=smallest - 1)


def test_weights_start_as_in_2018() -> None:
    model = cnn2018()
    for layer, fan_in in ((model.conv0, 75), (model.conv1, 1600), (model.linear, 2304)):
        assert layer.weight.std().item() == pytest.approx(fan_in**-0.5, rel=0.05)
        assert layer.weight.mean().abs().item() < 0.1 * fan_in**-0.5
        assert not layer.bias.any()


def test_weights_are_fixed_by_torchs_seed() -> None:
    models = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        models.append(cnn_small())
    assert torch.equal(models[0].conv1.weight, models[1].conv1.weight)
    assert not torch.equal(models[0].conv1.weight, models[2].conv1.weight)
