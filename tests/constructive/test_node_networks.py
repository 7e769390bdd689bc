"""A batch of networks computes and learns the same as a scalar reference."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from node_cases import scalar_learn, scalar_outputs

from gradnet.constructive.node_networks import TrainableNetworks, as_columns

D, K = 3, 2


def learners(units, seed=0):
    """Networks with so many hidden units each, and random weights and steps."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    made = TrainableNetworks.without_units(draw(len(units), K), D)
    for _ in range(max(units)):
        made = made.padded()
    made.outgoing_steps[:, 0] = draw(len(units), K)
    for index, count in enumerate(units):
        for unit in range(1, count + 1):
            made.set_unit(index, unit, (draw(1 + D), draw(K)), freeze_others=False)
            made.incoming_steps[index, unit] = draw(1 + D)
            made.outgoing_steps[index, unit] = draw(K)
    return made


def samples(count, seed=1):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, D, dtype=torch.float64, generator=generator)
    targets = torch.rand(count, K, dtype=torch.float64, generator=generator)
    return inputs, targets


def parts(made, index, units, names):
    return [getattr(made, name)[index, : 1 + units].tolist() for name in names]


WEIGHTS = ("incoming", "outgoing")
STEPS = ("incoming_steps", "outgoing_steps")


def test_outputs_equal_those_of_a_scalar_reference():
    units = [2, 0, 3]
    made = learners(units)
    inputs, _ = samples(4)
    outputs = made(inputs)
    assert outputs.shape == (3, 4, K)
    for index, count in enumerate(units):
        weights = parts(made, index, count, WEIGHTS)
        for n, x in enumerate(inputs.tolist()):
            _, expected = scalar_outputs(*weights, x)
            assert outputs[index, n].tolist() == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("size", [1, 5], ids=["pattern", "batch"])
def test_a_sweep_equals_scalar_backpropagation_with_momentum(size):
    units = [2, 1, 3]
    made = learners(units)
    expected = [
        (parts(made, index, count, WEIGHTS), parts(made, index, count, STEPS))
        for index, count in enumerate(units)
    ]
    inputs, targets = samples(5)
    pairs = list(zip(inputs.tolist(), targets.tolist(), strict=True))
    for start in range(0, 5, size):
        end = start + size
        columns, rows = as_columns(inputs[start:end]), targets[start:end].mT
        made.train_step(columns, rows, rate=0.5, momentum=0.9)
        for weights, steps in expected:
            scalar_learn(weights, steps, pairs[start:end], 0.5, 0.9)
    for index, (weights, steps) in enumerate(expected):
        for name, value in zip(WEIGHTS + STEPS, weights + steps, strict=True):
            found = getattr(made, name)[index, : 1 + units[index]]
            torch.testing.assert_close(
                found, found.new_tensor(value), rtol=0, atol=1e-12
            )


def test_the_bias_stays_one_and_padding_units_stay_zero():
    made = learners([1, 3])
    inputs, targets = samples(5)
    for _ in range(3):
        made.train_step(as_columns(inputs), targets.mT, rate=0.5, momentum=0.9)
    hidden, _ = made.values(as_columns(inputs))
    assert (hidden[:, 0] == 1).all() and not hidden[0, 2:].any()
    assert not made.incoming[:, 0].any() and not made.incoming_steps[:, 0].any()
    for name in (*WEIGHTS, *STEPS):
        assert not getattr(made, name)[0, 2:].any()


def test_padding_changes_nothing():
    made = learners([2, 3])
    inputs, _ = samples(4)
    padded = made.padded()
    assert padded.scale.shape[1] == made.scale.shape[1] + 1
    torch.testing.assert_close(padded(inputs), made(inputs), rtol=0, atol=1e-15)


@given(st.lists(st.floats(-1 / 6, 1 / 6), min_size=K, max_size=K))
def test_a_new_unit_moves_outputs_by_no_more_than_its_outgoing_weights(outgoing):
    made = learners([2])
    inputs, _ = samples(6)
    before, padded = made(inputs), made.padded()
    sent = torch.tensor(outgoing, dtype=torch.float64)
    padded.set_unit(0, 3, (torch.full((1 + D,), 0.1), sent), freeze_others=False)
    change = (padded(inputs) - before).abs()
    assert (change <= sent.abs() + 1e-15).all()
    if not sent.any():
        assert torch.equal(padded(inputs), before)


@pytest.mark.parametrize("freeze_others", [False, True])
def test_old_weights_stay_and_a_new_unit_begins_without_momentum(freeze_others):
    made = learners([2, 2])
    before = made.map(torch.clone)
    padded = made.padded()
    padded.set_unit(
        1, 3, (torch.full((1 + D,), 0.1), torch.full((K,), 0.2)), freeze_others
    )
    for name in ("incoming", "outgoing", "outgoing_steps"):
        assert torch.equal(getattr(padded, name)[:, :3], getattr(before, name))
    steps = padded.incoming_steps
    assert torch.equal(steps[0, :3], before.incoming_steps[0])
    assert torch.equal(steps[1, :3], before.incoming_steps[1] * (not freeze_others))
    assert not steps[1, 3].any() and not padded.outgoing_steps[1, 3].any()


def test_frozen_units_keep_every_bit_while_all_outgoing_weights_learn():
    made = learners([2, 2]).padded()
    made.set_unit(
        0, 3, (torch.full((1 + D,), 0.1), torch.full((K,), 0.2)), freeze_others=True
    )
    before = made.map(torch.clone)
    inputs, targets = samples(5)
    for _ in range(3):
        made.train_step(as_columns(inputs), targets.mT, rate=0.5, momentum=0.9)
    assert torch.equal(made.incoming[0, :3], before.incoming[0, :3])
    assert (made.incoming[0, 3] != before.incoming[0, 3]).all()
    assert (made.incoming[1, 1:3] != before.incoming[1, 1:3]).all()
    assert (made.outgoing[0] != before.outgoing[0]).all()
