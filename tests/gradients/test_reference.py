"""Backward passes of single samples, and nothing left on the model."""

import copy

import pytest
import torch
from cases import CASES, NUM_CLASSES
from reference import assert_same, gradients_by_loop

from gradnet.gradients.cotangents import check_labels, label_cotangents
from gradnet.gradients.reference import gradients_one_by_one


@pytest.mark.parametrize("case", CASES)
def test_they_equal_the_loop(case: str) -> None:
    found = CASES[case]()
    found.model.requires_grad_(False)
    before = copy.deepcopy(found.model.state_dict())
    labels = check_labels(found.y[:, None], len(found.x), NUM_CLASSES, found.x.device)
    expected = gradients_by_loop(found.model, found.x, labels)
    cotangents = label_cotangents(found.model(found.x), labels)
    actual = gradients_one_by_one(found.model, expected, found.x, cotangents)
    assert_same(actual, expected)
    assert_same(found.model.state_dict(), before)
    assert not any(p.requires_grad for p in found.model.parameters())


def test_a_parameter_that_nothing_uses_is_left_out() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    model.unused = torch.nn.Parameter(torch.ones(3))
    model.forward = lambda x: x @ torch.ones(2, 2).requires_grad_()
    found = gradients_one_by_one(
        model, ["unused"], torch.ones(2, 2), torch.ones(2, 1, 2)
    )
    assert found == {}
