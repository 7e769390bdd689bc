"""Backward passes of single samples, and nothing left on the model."""

import copy

import pytest
import torch
from cases import CASES, NUM_CLASSES
from reference import assert_same, gradients_by_loop

from gradnet.gradients.cotangents import label_cotangents
from gradnet.gradients.inputs import check_labels
from gradnet.gradients.reference import backward_passes, gradients_one_by_one


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


def test_passes_run_one_by_one_and_leave_the_samples_as_they_are() -> None:
    weight = torch.tensor([2.0, 3.0], requires_grad=True)
    x = torch.tensor([[1.0, 4.0], [5.0, 6.0]])

    def model(sample: torch.Tensor) -> torch.Tensor:
        assert sample.shape == (1, 2)
        return sample.mul_(weight)

    def loss(logits: torch.Tensor, index: int) -> torch.Tensor:
        return logits[0, index]

    other = torch.ones(3, requires_grad=True)
    parameters = {"weight": weight, "other": other}
    first, second = backward_passes(model, parameters, x, loss)
    assert first.keys() == second.keys() == {"weight"}
    assert first["weight"].tolist() == [1, 0] and second["weight"].tolist() == [0, 6]
    assert x.tolist() == [[1, 4], [5, 6]]


def test_a_parameter_that_nothing_uses_is_left_out() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    model.unused = torch.nn.Parameter(torch.ones(3))
    model.forward = lambda x: x @ torch.ones(2, 2).requires_grad_()
    found = gradients_one_by_one(
        model, ["unused"], torch.ones(2, 2), torch.ones(2, 1, 2)
    )
    assert found == {}
