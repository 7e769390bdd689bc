"""Removed units are removed everywhere; the function of the others is preserved."""

import copy

import pytest
import torch
from channel_cases import CASES, IMAGES, build, linear
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gradnet.errors import InvalidInputError
from gradnet.surgery.channels.groups import channel_group
from gradnet.surgery.remove import remove_units
from gradnet.surgery.widen import widen


def silenced(model, layer, units, x):
    """The same network, in which nothing reads those units."""
    model = copy.deepcopy(model)
    group = channel_group(model, layer, x)
    for part in group.slices:
        if part.role == "consumer":
            weight = model.get_submodule(part.layer).weight.data
            for unit in units:
                first = part.offset + unit * part.repeat
                weight[:, first : first + part.repeat] = 0
    return model


@pytest.mark.parametrize("case", CASES)
def test_the_rest_computes_as_with_zero_outgoing_weights(case):
    model, layer, x = build(case)
    units = [2, 0] if model.get_submodule(layer).weight.shape[0] > 2 else [0]
    quiet = silenced(model, layer, units, x)
    state = copy.deepcopy(quiet.state_dict())
    edit = remove_units(quiet, layer, units, probe=x)
    assert edit.certificate.largest_difference <= 1e-10
    assert edit.certificate.largest_logit > 0.01
    for training in (False, True):
        outputs = [copy.deepcopy(m).train(training)(x) for m in (quiet, edit.model)]
        torch.testing.assert_close(*outputs, rtol=1e-10, atol=1e-10)
    assert all(t.equal(state[n]) for n, t in quiet.state_dict().items())
    kept = state[f"{layer}.weight"].shape[0] - len(units)
    assert edit.model.get_submodule(layer).weight.shape[0] == kept
    assert edit.certificate.parameters[1] < edit.certificate.parameters[0]
    assert edit.certificate.split == edit.certificate.created == ()
    loud = remove_units(model, layer, units, probe=x).certificate
    assert loud.largest_difference > 1e-6


@pytest.mark.parametrize("case", CASES)
def test_removing_undoes_padding_with_zero_outgoing_weights(case):
    model, layer, x = build(case)
    width = model.get_submodule(layer).weight.shape[0]
    edit = widen(model, layer, width + 3, probe=x, initialization="random-pad")
    new = list(range(width, width + 3))
    padded = silenced(edit.model, layer, new, x)
    assert remove_units(padded, layer, new, probe=x).certificate.preserves(1e-12)
    back = remove_units(edit.model, layer, new, probe=x).model
    assert repr(back) == repr(model)
    for name, tensor in back.state_dict().items():
        assert tensor.equal(model.state_dict()[name])


@given(st.permutations(range(5)), st.integers(1, 4))
def test_any_units_of_a_linear_layer(order, count):
    model = linear(nn.Tanh()).double()
    x = torch.randn(*IMAGES, dtype=torch.float64)
    edit = remove_units(model, "1", order[:count], probe=x)
    kept = sorted(order[count:])
    hidden = torch.tanh(x.flatten(1) @ model[1].weight.T + model[1].bias)[:, kept]
    expected = hidden @ model[3].weight[:, kept].T + model[3].bias
    torch.testing.assert_close(edit.model(x), expected)
    assert edit.origins["1.bias"].indices[0].tolist() == kept


def test_layers_that_mix_channels_are_supported():
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(128, 5), nn.LayerNorm(5), nn.Linear(5, 3)
    )
    edit = remove_units(model, "1", [4], probe=torch.randn(*IMAGES))
    assert edit.model[2].normalized_shape == (4,)
    assert edit.certificate.largest_difference > 1e-4


@pytest.mark.parametrize(
    ("layer", "units", "match"),
    [
        ("1", [5], "no unit 5; its units are 0 to 4"),
        ("1", [0, -1], "no unit -1"),
        ("1", [2, 3, 2], "units of layer '1' are repeated"),
        ("1", range(5), "all 5 units of layer '1'"),
        ("3", [0], "layer '3'.*the network's output"),
        ("2", [0], "layer '2' is a ReLU"),
        ("conv", [0], "no layer 'conv'"),
    ],
)
def test_invalid_input_is_refused(layer, units, match):
    with pytest.raises(InvalidInputError, match=match):
        remove_units(linear(nn.ReLU()), layer, units, probe=torch.randn(*IMAGES))
