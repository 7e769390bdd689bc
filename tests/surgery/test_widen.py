"""Widened networks compute the same, follow the chain rule, and share no memory."""

import copy

import pytest
import torch
from channel_cases import CASES, IMAGES, Residual, build, disturbed, linear
from edit_checks import check_chain_rule, difference, gradients
from torch import Tensor, nn

from gradnet.errors import InvalidInputError
from gradnet.surgery.edit import Edit
from gradnet.surgery.widen import widen


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_function_is_preserved(case, training):
    model, layer, x = build(case)
    for width in (11, 23):
        edit = widen(model, layer, width, probe=x)
        assert difference(edit, x, training) <= 1e-10
        assert edit.certificate.largest_difference <= 1e-10


@pytest.mark.parametrize("case", CASES)
def test_gradients_follow_the_chain_rule(case):
    model, layer, x = build(case)
    check_chain_rule(widen(model, layer, 11, probe=x), x)


def test_gradients_of_unchanged_layers_are_the_same():
    model, layer, x = build("residual, inner")
    old, edit = gradients(model, x), widen(model, layer, 9, probe=x)
    new = gradients(edit.model, x)
    same = [n for n in new if new[n].shape == old[n].shape]
    assert len(same) == len(old) - 4  # the convolution, its norm (2), its reader
    for name in same:
        torch.testing.assert_close(new[name], old[name], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("initialization", ["split", "random-pad"])
@pytest.mark.parametrize("case", CASES)
def test_original_is_not_modified_and_no_memory_is_shared(case, initialization):
    model, layer, x = build(case)
    old = copy.deepcopy(model.state_dict())
    edit = widen(model, layer, 11, probe=x, initialization=initialization)
    assert edit.before is model and edit.model is not model
    assert all(torch.equal(old[n], t) for n, t in model.state_dict().items())
    teacher, student = (
        {t.data_ptr() for t in m.state_dict().values() if t.numel()}
        for m in (model, edit.model)
    )
    assert not teacher & student


@pytest.mark.parametrize("case", CASES)
def test_layer_attributes_match_their_tensors(case):
    model, layer, x = build(case)
    edit = widen(model, layer, 11, probe=x)
    assert edit.model.get_submodule(layer).weight.shape[0] == 11
    for old, new in zip(model.modules(), edit.model.modules(), strict=True):
        if type(new).__module__.startswith("torch.nn") and not list(new.children()):
            fresh = eval(f"nn.{new!r}").double()
            fresh.load_state_dict(new.state_dict())
            assert (old.state_dict().keys(), type(old)) == (
                new.state_dict().keys(),
                type(new),
            )


def test_counts():
    x = torch.randn(*IMAGES)
    certificate = widen(linear(nn.ReLU()), "1", 8, probe=x).certificate
    old, new = (128 * h + h + h * 3 + 3 for h in (5, 8))
    assert certificate.parameters == (old, new)
    assert certificate.flops == (2 * 131 * 5, 2 * 131 * 8)
    assert certificate.copied == ("1.weight", "1.bias", "3.bias")
    assert (certificate.split, certificate.created) == (("3.weight",), ())


def test_widening_twice_and_layer_after_layer():
    model, layer, x = build("residual, preactivated")
    first = widen(model, layer, 7, probe=x)
    second = widen(first.model, "stem", 12, probe=x)
    third = widen(second.model, "blocks.0.conv1", 9, probe=x)
    for training in (False, True):
        assert difference(Edit(model, third.model, {}, None), x, training) <= 1e-10
    for name in ("stem", "project", "blocks.0.conv2", "blocks.1.conv2"):
        assert third.model.get_submodule(name).out_channels == 12


@pytest.mark.parametrize("training", [False, True])
def test_mode_type_and_frozen_parameters_are_kept(training):
    model = Residual(False).train(training)
    model.blocks.eval()
    model.stem.weight.requires_grad_(False)
    edit = widen(model, "stem", 8, probe=torch.randn(*IMAGES))
    for old, new in zip(model.modules(), edit.model.modules(), strict=True):
        assert old.training == new.training
    trainable = [[p.requires_grad for p in m.parameters()] for m in (model, edit.model)]
    assert trainable[0] == trainable[1]
    assert {t.dtype for t in edit.model.parameters()} == {torch.float32}
    assert edit.certificate.preserves(1e-5)


def normalized_network(norm: nn.Module) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)
    )


@pytest.mark.parametrize(
    "norm",
    [
        nn.LayerNorm((4, 6, 6)),
        nn.GroupNorm(2, 4),
        nn.LocalResponseNorm(3, alpha=1),
        nn.Softmax(dim=1),
        nn.Softmax2d(),
    ],
    ids=lambda norm: type(norm).__name__,
)
def test_layers_that_mix_channels_need_inexact(norm):
    model = disturbed(normalized_network(norm))
    x = torch.randn(*IMAGES)
    with pytest.raises(
        InvalidInputError, match=rf"'1' \({type(norm).__name__}\).*exact=F"
    ):
        widen(model, "0", 8, probe=x)
    edit = widen(model, "0", 8, probe=x, exact=False)
    assert edit.certificate.largest_difference > 1e-3
    for name, _ in norm.named_parameters():
        assert edit.model[1].get_parameter(name).shape[0] == 8
    assert widen(model, "0", 8, probe=x, initialization="random-pad")


def test_normalization_over_other_dimensions_is_allowed():
    model = disturbed(normalized_network(nn.LayerNorm((6, 6)))).double()
    x = torch.randn(*IMAGES, dtype=torch.float64)
    assert widen(model, "0", 8, probe=x).certificate.largest_difference <= 1e-10


class Averaging(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(2, 4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.head(x.mean((2, 3)) / x.size(1))


def test_dependence_on_the_number_of_units_is_detected():
    x = torch.randn(*IMAGES)
    with pytest.raises(
        InvalidInputError, match="'conv' changes a logit by .*exact=False"
    ):
        widen(Averaging(), "conv", 8, probe=x)
    edit = widen(Averaging(), "conv", 8, probe=x, exact=False)
    assert edit.certificate.largest_difference > 1e-3


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"width": 5}, "layer '1' already has 5 units, not fewer than 5"),
        ({"width": 2}, "remove_units"),
        ({"layer": "7"}, "no layer '7'"),
        ({"layer": "2"}, "layer '2' is a ReLU"),
        ({"layer": "3"}, "layer '3'.*the network's output"),
        ({"initialization": "zero"}, "no initialization 'zero'; there are: split, r"),
        ({"noise": -1.0}, "noise is -1.0"),
        ({"noise": 0.1, "initialization": "random-pad"}, "noise is 0.1"),
    ],
)
def test_invalid_arguments_are_rejected(arguments, match):
    arguments = {"layer": "1", "width": 8, "probe": torch.randn(*IMAGES), **arguments}
    with pytest.raises(InvalidInputError, match=match):
        widen(linear(nn.ReLU()), **arguments)
