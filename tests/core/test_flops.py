"""Counted FLOPs equal hand counts; what is frozen, and needs no gradient, is free."""

import copy

import pytest
import torch
from torch import nn

from gradnet.core.flops import (
    Flops,
    count_flops,
    count_parameters,
    forward_flops,
    training_flops,
)
from gradnet.growth.methods.cornet import CornetAsPublished, PronetAsPublished
from gradnet.models.resnet import ResNet
from gradnet.surgery.masks import with_masks

HEAD = 2 * 5 * 3


def conv(inputs, outputs, kernel, size, groups=1):
    """FLOPs of a convolution with ``size`` x ``size`` outputs, for one sample."""
    return 2 * size**2 * outputs * (inputs // groups) * kernel**2


def convnet():
    """Convolutions on 8 x 8 images with 8 x 8, 4 x 4 and 2 x 2 outputs, and a head."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 5, stride=2, padding=2),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 5, 3),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(5, 3),
    )


IMAGES = torch.randn(4, 3, 8, 8)
LAYERS = [conv(3, 4, 3, 8), conv(4, 6, 5, 4), conv(6, 5, 3, 2), HEAD]


def test_a_linear_layer_multiplies_each_input_with_each_weight():
    model, x = nn.Linear(7, 5), torch.randn(3, 7)
    assert forward_flops(model, x) == 2 * 7 * 5
    assert training_flops(model, x) == Flops(70, 70, 0)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (nn.Conv2d(3, 5, 3), conv(3, 5, 3, 6)),
        (nn.Conv2d(3, 5, 3, padding=1), conv(3, 5, 3, 8)),
        (nn.Conv2d(3, 5, 3, stride=2, padding=1), conv(3, 5, 3, 4)),
        (nn.Conv2d(3, 6, 3, padding=1, groups=3), conv(3, 6, 3, 8, groups=3)),
        (nn.Conv2d(3, 5, 3, dilation=2), conv(3, 5, 3, 4)),
    ],
    ids=str,
)
def test_a_convolution_counts_its_outputs_times_its_kernel(layer, expected):
    assert forward_flops(layer, IMAGES) == expected
    step = training_flops(layer, IMAGES, lambda outputs: outputs.sum())
    assert step == Flops(expected, expected, 0)


def test_a_transposed_convolution_counts_its_inputs_times_its_kernel():
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ConvTranspose2d(3, 5, 2, stride=2))
    first, second = conv(3, 3, 1, 8), 2 * 8**2 * 3 * 5 * 2**2
    step = training_flops(model, IMAGES, lambda outputs: outputs.sum())
    assert step == Flops(first + second, first + second, second)


def test_behind_a_grouped_convolution_the_input_gradient_is_grouped_too():
    model = nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 3, groups=6))
    first, second = conv(3, 6, 1, 8), conv(6, 6, 3, 6, groups=6)
    step = training_flops(model, IMAGES, lambda outputs: outputs.sum())
    assert step == Flops(first + second, first + second, second)


def test_the_first_layer_needs_no_gradient_of_its_input():
    everything = sum(LAYERS)
    assert forward_flops(convnet(), IMAGES) == everything
    step = training_flops(convnet(), IMAGES)
    assert step == Flops(everything, everything, everything - LAYERS[0])
    assert step.total == 3 * everything - LAYERS[0]


def freeze(model, *places):
    for place in places:
        model[place].requires_grad_(False)
    return model


def test_frozen_first_layers_have_no_backward_pass():
    step = training_flops(freeze(convnet(), 0, 1, 3, 4), IMAGES)
    assert step == Flops(sum(LAYERS), sum(LAYERS[2:]), LAYERS[3])


def test_a_norm_that_trains_wants_the_gradients_of_all_behind_it():
    step = training_flops(freeze(convnet(), 0, 3, 4, 6, 9), IMAGES)
    assert step == Flops(sum(LAYERS), 0, sum(LAYERS[1:]))


def test_frozen_last_layers_pass_gradients_on_but_take_none():
    step = training_flops(freeze(convnet(), 6, 9), IMAGES)
    assert step == Flops(sum(LAYERS), sum(LAYERS[:2]), sum(LAYERS[1:]))


def test_all_frozen_is_a_forward_pass():
    assert training_flops(convnet().requires_grad_(False), IMAGES) == Flops(sum(LAYERS))


def test_a_tied_layer_is_counted_each_time_it_works():
    tied = nn.Linear(5, 5)
    model = nn.Sequential(tied, nn.ReLU(), tied, nn.ReLU(), nn.Linear(5, 3))
    step = training_flops(model, torch.randn(2, 5))
    assert step == Flops(50 + 50 + 30, 50 + 50 + 30, 50 + 30)
    assert count_parameters(model) == 30 + 18


class Positions(nn.Module):
    """A network with a weight of its own, that multiplies nothing, around a layer."""

    def __init__(self):
        super().__init__()
        self.positions = nn.Parameter(torch.randn(1, 5))
        self.inner = nn.Linear(5, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        return self.head(self.inner(x + self.positions))


def test_a_weight_around_layers_is_not_counted_with_theirs():
    step = training_flops(Positions(), torch.randn(2, 5))
    assert step == Flops(80, 80, 80)


def test_parameters_are_counted_with_and_without_frozen_ones():
    model = freeze(convnet(), 0)
    first = 3 * 4 * 9 + 4
    everything = first + 8 + (4 * 6 * 25 + 6) + 12 + (6 * 5 * 9 + 5) + (5 * 3 + 3)
    assert count_parameters(model) == everything
    assert count_parameters(model, trainable_only=True) == everything - first


def test_the_number_of_samples_does_not_matter_for_one():
    assert training_flops(convnet(), IMAGES) == training_flops(convnet(), IMAGES[:2])
    assert forward_flops(convnet(), IMAGES) == forward_flops(convnet(), IMAGES[:1])


def test_counting_changes_nothing():
    model = convnet().append(nn.Dropout())
    before = copy.deepcopy(model.state_dict())
    for count in (forward_flops, training_flops):
        torch.manual_seed(3)
        expected = torch.rand(2)
        torch.manual_seed(3)
        count(model, IMAGES)
        assert torch.equal(torch.rand(2), expected)
        assert model.training and all(m.training for m in model.modules())
        assert all(p.grad is None and p.requires_grad for p in model.parameters())
        for name, value in model.state_dict().items():
            assert torch.equal(value, before[name]), name


def test_flops_add_up_and_multiply():
    one, two = Flops(1, 2, 3), Flops(10, 20, 30)
    assert one + two == Flops(11, 22, 33)
    assert two * 0.5 == Flops(5, 10, 15)
    assert Flops() == Flops(0, 0, 0) and (one + two).total == 66


def test_the_published_network_has_its_published_size():
    image = torch.randn(1, 3, 32, 32)
    full, grown = ResNet(), ResNet(blocks=13)
    assert forward_flops(full, image) == pytest.approx(2 * 1008.42e6, abs=2e4)
    assert forward_flops(grown, image) == pytest.approx(2 * 932.9e6, abs=1e5)
    assert count_parameters(full) == pytest.approx(15.6e6, abs=0.05e6)


@pytest.mark.parametrize(
    ("kind", "counts_all_inputs", "expected"),
    [
        (CornetAsPublished, True, 0.283),
        (CornetAsPublished, False, 0.282),
        (PronetAsPublished, False, 0.574),
    ],
)
def test_growth_costs_the_counted_part_of_the_full_network(
    kind, counts_all_inputs, expected
):
    """Edits at 500, 1001, ... 6011 of 7820 steps; the full network trains in all.

    The analytic count of 0.283 has gradients of the first trained block's input
    everywhere. They are taken only where the norm before it trains: not before blocks
    that halve the image. Heads are counted here, which makes no difference.
    """
    method, images = kind(), torch.randn(1, 3, 32, 32)
    ends = [*range(500, 6012, 501), 7820]
    spent, start = 0.0, 0
    for stage, end in enumerate(ends):
        model = ResNet(blocks=stage + 1)
        method.freeze(model, stage)
        if counts_all_inputs and stage >= 2:
            model.get_submodule(f"norm{stage - 2}").requires_grad_(True)
        spent += training_flops(model, images).total * (end - start)
        start = end
    full = training_flops(ResNet(), images).total * 7820
    assert spent / full == pytest.approx(expected, abs=0.0005)


def test_any_calls_work_is_counted_with_derivatives_of_every_kind():
    layer = nn.Linear(3, 5, bias=False)
    x = torch.randn(4, 3)
    forward = 2 * 4 * 3 * 5

    def gradient():
        (found,) = torch.autograd.grad(layer(x).square().sum(), layer.weight)
        return found

    assert count_flops(lambda: layer(x)) == forward
    assert count_flops(gradient) == 2 * forward  # and that of the weight
    assert count_flops(lambda: None) == 0


def test_a_masked_weight_is_a_weight():
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    x = torch.randn(4, 6)
    plain = training_flops(model, x)
    masks = {"0.weight": torch.ones(5, 6, dtype=torch.bool)}
    assert training_flops(with_masks(model, masks), x) == plain
