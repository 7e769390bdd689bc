"""Quickprop steps every weight as Fahlman's program steps one."""

import pytest
import torch
from cascade_cases import scalar_quickprop
from hypothesis import given
from hypothesis import strategies as st

from gradnet.constructive.quickprop import QuickpropWeights, quickprop_step

NUMBERS = st.one_of(
    st.sampled_from([0.0, 1.0, -1.0]), st.floats(-10, 10, allow_subnormal=False)
)
TRIPLES = st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=30)


@given(TRIPLES, st.floats(0.01, 10), st.floats(1, 4))
def test_each_weight_steps_by_itself(triples, rate, growth):
    columns = torch.tensor(triples, dtype=torch.float64).T
    expected = [scalar_quickprop(*triple, rate, growth) for triple in triples]
    steps = quickprop_step(*columns, rate, growth)
    torch.testing.assert_close(steps, torch.tensor(expected, dtype=torch.float64))
    assert steps.isfinite().all()


def test_a_step_too_far_comes_back_to_the_bottom_of_a_parabola():
    weights = QuickpropWeights.start(torch.tensor([5.0], dtype=torch.float64))
    for _ in range(2):
        weights.descend(weights.values - 3, 1.5, 2.0, 0.0)
    assert weights.values.item() == pytest.approx(3)


def test_decay_is_added_to_the_slope():
    weights = QuickpropWeights.start(torch.tensor([4.0]))
    weights.descend(torch.tensor([1.0]), 1.0, 2.0, 0.5)
    assert weights.values.item() == 1 and weights.slopes.item() == 3


def test_selected_trials_keep_their_state():
    weights = QuickpropWeights.start(torch.arange(3.0)[:, None])
    weights.descend(torch.ones(3, 1), 0.1, 2.0, 0.0)
    weights.select(torch.tensor([False, True, True]))
    assert weights.values[:, 0].tolist() == pytest.approx([0.9, 1.9])
    assert weights.steps[:, 0].tolist() == pytest.approx([-0.1, -0.1])
    assert weights.slopes.shape == (2, 1)
