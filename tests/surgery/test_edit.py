"""Origins gather, scale and overlay as loops do; certificates say what was measured."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gradnet.core.flops import count_parameters
from gradnet.errors import InvalidInputError
from gradnet.surgery.edit import (
    Certificate,
    Origin,
    certify,
    identity_origins,
    layer_of,
)


@st.composite
def origins(draw):
    """An old tensor, an origin on some of its dimensions, and the new shape."""
    shape = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    tables = {"indices": {}, "scale": {}, "gradient_scale": {}}
    new_shape = list(shape)
    numbers = st.floats(-2, 2, width=32)
    for dimension, size in enumerate(shape):
        if draw(st.booleans()):
            index = draw(st.lists(st.integers(-1, size - 1), min_size=1, max_size=4))
            tables["indices"][dimension] = torch.tensor(index)
            new_shape[dimension] = len(index)
        many = new_shape[dimension]
        for name in ("scale", "gradient_scale"):
            if draw(st.booleans()):
                factors = draw(st.lists(numbers, min_size=many, max_size=many))
                tables[name][dimension] = torch.tensor(factors, dtype=torch.float64)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 9)))
    old = torch.randn(shape, dtype=torch.float64, generator=generator)
    return old, Origin("weight", **tables), new_shape


def place_of(origin, position):
    """The position in the source of a position in the new tensor; None where new."""
    source = list(position)
    for dimension, index in origin.indices.items():
        source[dimension] = int(index[position[dimension]])
    return None if -1 in source else tuple(source)


def by_loop(shape, value):
    """A tensor of ``value(position)`` at each position."""
    new = torch.zeros(shape, dtype=torch.float64)
    for position in torch.cartesian_prod(*map(torch.arange, shape)).reshape(
        -1, len(shape)
    ):
        new[tuple(position)] = value(position.tolist())
    return new


def product(table, position):
    factor = 1.0
    for dimension, factors in table.items():
        factor = factor * factors[position[dimension]].item()
    return factor


@given(origins())
def test_entries_go_where_a_loop_puts_them(case):
    old, origin, shape = case

    def gathered(position):
        index = place_of(origin, position)
        return 0.0 if index is None else old[index]

    def scaled(position):
        return gathered(position) * product(origin.scale, position)

    fresh = torch.full(shape, 7.0, dtype=torch.float64)

    def overlaid(position):
        return 7.0 if place_of(origin, position) is None else scaled(position)

    before = old.clone()
    torch.testing.assert_close(origin.gather(old), by_loop(shape, gathered))
    torch.testing.assert_close(origin.scaled(old), by_loop(shape, scaled))
    torch.testing.assert_close(origin.overlay(old, fresh), by_loop(shape, overlaid))
    assert torch.equal(old, before)


@given(origins())
def test_gradient_factors_are_products_over_dimensions(case):
    old, origin, shape = case
    new = origin.gather(old)
    factor = origin.gradient_factor(new)
    expected = by_loop(shape, lambda index: product(origin.gradient_scale, index))
    assert factor.dtype == new.dtype and factor.ndim == new.ndim
    torch.testing.assert_close(factor.expand(shape), expected)


def test_counters_and_masks_are_gathered_as_they_are():
    counter, mask = torch.tensor(7), torch.tensor([True, False])
    assert Origin("n").gather(counter).item() == 7
    assert Origin("n").scaled(counter).dtype == torch.long
    turned = Origin("m", {0: torch.tensor([1, 0, -1])}).gather(mask)
    assert turned.tolist() == [False, True, False]


def test_an_entry_that_came_from_nowhere_stays_fresh_though_the_old_one_was_zero():
    origin = Origin("w", {0: torch.tensor([0, -1])})
    assert origin.overlay(torch.zeros(1), torch.ones(2)).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("method", ["gather", "scaled"])
def test_what_is_gathered_shares_no_memory(method):
    old = torch.zeros(2)
    getattr(Origin("w"), method)(old).add_(1)
    assert old.tolist() == [0, 0]


def small():
    return nn.Sequential(
        nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2)
    ).double()


PROBE = torch.randn(5, 4, dtype=torch.float64)


def test_a_certificate_says_what_was_measured():
    before = small()
    model = copy.deepcopy(before)
    with torch.no_grad():
        model[3].bias += torch.tensor([0.25, -0.5])
    model.append(nn.Identity())
    twice = torch.tensor([1.0, 0.5, 0.5])
    kept = identity_origins(before)
    kept["0.weight"] = Origin("0.weight", {0: torch.tensor([0, 1, 1])})
    kept["3.weight"] = Origin("3.weight", scale={1: twice})
    kept["0.bias"] = Origin("0.bias", {0: torch.tensor([0, 1, -1])})
    del kept["3.bias"]
    edit = certify(before, model, kept, PROBE)
    certificate = edit.certificate
    assert edit.before is before and edit.model is model
    assert certificate.largest_difference == pytest.approx(0.5)
    with torch.no_grad():
        expected = copy.deepcopy(before).eval()(PROBE).abs().max().item()
    assert certificate.largest_logit == pytest.approx(expected)
    assert certificate.parameters == (count_parameters(before),) * 2
    assert certificate.flops == (2 * (12 + 6), 2 * (12 + 6))
    assert set(certificate.created) == {"0.bias", "3.bias"}
    assert certificate.split == ("3.weight",)
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    assert set(certificate.copied) == {"0.weight", *(f"1.{name}" for name in norm)}


def test_measuring_leaves_modes_and_statistics_alone():
    before, model = small(), small()
    before[1].eval()
    states = [copy.deepcopy(m.state_dict()) for m in (before, model)]
    certify(before, model, {}, PROBE)
    assert before.training and not before[1].training and before[0].training
    assert all(m.training for m in model.modules())
    for network, state in zip((before, model), states, strict=True):
        for name, value in network.state_dict().items():
            assert torch.equal(value, state[name]), name


def test_a_network_that_fails_on_the_probe_is_refused():
    broken = small()
    broken[3] = nn.Linear(9, 2).double()
    with pytest.raises(
        InvalidInputError, match="edited network fails on the probe: mat1"
    ):
        certify(small(), broken, {}, PROBE)


@pytest.mark.parametrize(
    ("difference", "logit", "tolerance", "expected"),
    [(1e-6, 10.0, 1e-6, True), (1e-4, 10.0, 1e-6, False), (0.0, 0.0, 0.0, True)],
)
def test_preservation_is_relative_to_the_largest_logit(
    difference, logit, tolerance, expected
):
    certificate = Certificate(difference, logit, (1, 1), (1, 1), (), (), ())
    assert certificate.preserves(tolerance) is expected


def test_a_difference_that_is_no_number_is_not_preserved():
    certificate = Certificate(float("nan"), 1.0, (1, 1), (1, 1), (), (), ())
    assert not certificate.preserves(1e-5)


def test_a_layer_is_found_by_its_name():
    model = nn.Sequential(small(), nn.ReLU())
    assert layer_of(model, "0.3", (nn.Linear,)) is model[0][3]
    assert layer_of(model, "1") is model[1]


def test_a_missing_layer_is_told_with_those_that_are_there():
    message = "no layer '9'; it has: 0, 3"
    with pytest.raises(InvalidInputError, match=message):
        layer_of(small(), "9", (nn.Linear,))
    with pytest.raises(InvalidInputError, match="no layer ''; it has: 0, 1, 2, 3"):
        layer_of(small(), "")
    many = nn.Sequential(*(nn.ReLU() for _ in range(25)))
    with pytest.raises(InvalidInputError, match=r"18, 19, \.\.\.$"):
        layer_of(many, "x")


def test_a_layer_of_another_type_is_refused_with_the_types_wanted():
    message = "layer '1' is a BatchNorm1d; give a layer of type Linear, Conv2d"
    with pytest.raises(InvalidInputError, match=message):
        layer_of(small(), "1", (nn.Linear, nn.Conv2d))
