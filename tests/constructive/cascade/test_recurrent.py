"""Recurrent units have a self-connection; gradients are those through time."""

import pytest
import torch
from cascade_cases import bits, parity

from gradnet.constructive.cascade.recurrent import (
    RecurrentUnits,
    recurrent_cascade,
    recurrent_outputs,
)
from gradnet.constructive.cascade.settings import CascadeSettings
from gradnet.constructive.cascade.trainer import cascade_correlation
from gradnet.errors import InvalidInputError
from gradnet.models.activations import activation

TRIALS, COUNT, FEATURES, SEQUENCES, STEPS = 2, 3, 3, 4, 5
NAMES = ("sigmoid", "gaussian")
GAUSSIAN = CascadeSettings(activations=["gaussian"])


def some(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def unrolled(weights, features, name):
    """Values of one unit, sequence after sequence, step after step."""
    rows = []
    for sequence in features.T.split(STEPS):
        value = torch.zeros((), dtype=torch.float64)
        for seen in sequence:
            net = weights[:-1] @ seen + weights[-1] * value
            value = activation(name).value(net)
            rows.append(value)
    return torch.stack(rows)


@pytest.fixture
def forward():
    units = RecurrentUnits(COUNT, STEPS, NAMES)
    weights, features = (
        some(TRIALS, COUNT, FEATURES + 1),
        some(TRIALS, FEATURES, SEQUENCES * STEPS),
    )
    members = torch.arange(COUNT).expand(TRIALS, -1)
    return weights, features, *units.forward(weights, features, members)


def test_values_and_gradients_equal_autograd_through_time(forward):
    weights, features, values, pullback = forward
    cotangents = some(*values.shape)
    slopes = pullback(cotangents)
    for trial in range(TRIALS):
        for index in range(COUNT):
            own = weights[trial, index].clone().requires_grad_()
            expected = unrolled(own, features[trial], NAMES[index % 2])
            torch.testing.assert_close(values[trial, index, 0], expected)
            (gradient,) = torch.autograd.grad(
                expected, own, cotangents[trial, index, 0]
            )
            torch.testing.assert_close(slopes[trial, index], gradient)


def test_gradients_equal_the_published_recursion(forward):
    weights, features, values, pullback = forward
    cotangents = some(*values.shape)
    slopes = pullback(cotangents)
    own, seen = weights[0, 0], features[0]
    total = torch.zeros(FEATURES + 1, dtype=torch.float64)
    for start in range(0, SEQUENCES * STEPS, STEPS):
        before, change = torch.tensor(0.0).double(), torch.zeros_like(total)
        for index in range(start, start + STEPS):
            value = values[0, 0, 0, index]
            inputs = torch.cat([seen[:, index], before[None]])
            change = (0.25 - value**2) * (inputs + own[-1] * change)
            total += cotangents[0, 0, 0, index] * change
            before = value
    torch.testing.assert_close(slopes[0, 0], total)


def running_parity(steps):
    rows = bits(steps)
    return rows[..., None] - 0.5, (rows.cumsum(1) % 2 - 0.5)[..., None]


def test_running_parity_needs_one_recurrent_gaussian_unit():
    inputs, targets = running_parity(5)
    result = recurrent_cascade(inputs, targets, GAUSSIAN, seeds=range(5))
    assert result.solved.all() and (result.hidden_units == 1).all()
    outputs = recurrent_outputs(result.network, inputs)
    assert outputs.shape == (5, 32, 5, 1)
    assert ((outputs - targets).abs() < 0.4).all()


def test_networks_take_sequences_of_any_length():
    inputs, targets = running_parity(5)
    network = recurrent_cascade(inputs, targets, GAUSSIAN).network
    longer, goals = running_parity(8)
    outputs = recurrent_outputs(network, longer)[0]
    torch.testing.assert_close(
        outputs[:32, :5], recurrent_outputs(network, longer[:32, :5])[0]
    )
    right = ((outputs > 0) == (goals > 0)).double().mean()
    assert right > 0.9
    assert not torch.equal(
        recurrent_outputs(network, inputs, units=0)[0, 0],
        recurrent_outputs(network, inputs)[0, 0],
    )


def test_padding_does_not_count():
    inputs, targets = running_parity(4)
    plain = recurrent_cascade(inputs, targets, GAUSSIAN, seeds=[3])
    more = torch.full((16, 2, 1), torch.nan, dtype=torch.float64)
    padded = recurrent_cascade(
        torch.cat([inputs, torch.ones_like(more)], 1),
        torch.cat([targets, more], 1),
        GAUSSIAN,
        seeds=[3],
    )
    # Rates are divided by more samples, so that training differs; solutions do not.
    assert plain.solved.all() and padded.solved.all()
    off = recurrent_outputs(padded.network, inputs)[0] - targets
    assert off.abs().max() < 0.4


def test_a_delay_is_learned_with_sigmoids():
    rows = bits(5)
    inputs, targets = rows[..., None] - 0.5, torch.full((32, 5, 1), torch.nan).double()
    targets[:, 1:, 0] = rows[:, :-1] - 0.5
    result = recurrent_cascade(inputs, targets, seeds=range(4))
    assert result.solved.all() and result.hidden_units.max() <= 6


def test_sequences_of_other_shapes_are_refused():
    inputs, targets = running_parity(3)
    with pytest.raises(InvalidInputError, match=r"give \(S, L, D\) and \(S, L, K\)"):
        recurrent_cascade(inputs, targets[:, :2])


def test_networks_of_other_units_are_refused():
    inputs, targets = parity(2)
    network = cascade_correlation(inputs, targets).network
    with pytest.raises(InvalidInputError, match="other units than RecurrentUnits"):
        recurrent_outputs(network, inputs[None])
