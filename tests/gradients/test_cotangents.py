"""Cotangents are the slopes of the loss in the logits, label by label."""

import pytest
import torch
from reference import assert_same
from torch import Tensor
from torch.nn import functional

from gradnet.errors import GradnetError
from gradnet.gradients.cotangents import (
    Loss,
    check_labels,
    label_cotangents,
    loss_cotangents,
)


def smooth(logits: Tensor, label: Tensor) -> Tensor:
    return functional.cross_entropy(logits / 3, label) + logits.square().mean()


@pytest.mark.parametrize("loss", ["cross_entropy", smooth], ids=["name", "function"])
def test_each_is_the_slope_at_its_own_label(loss: str | Loss) -> None:
    logits = torch.randn(3, 4, dtype=torch.float64)
    labels = torch.tensor([[0, 3, 3], [1, 2, 0], [2, 2, 1]])
    function = functional.cross_entropy if isinstance(loss, str) else loss
    cotangents = loss_cotangents(loss, logits, labels)
    assert cotangents.shape == (3, 3, 4)
    for n in range(3):
        for c in range(3):
            z = logits[n].clone().requires_grad_()
            function(z, labels[n, c]).backward()
            assert_same(cotangents[n, c], z.grad)


def test_weighted_by_probability_they_sum_to_zero() -> None:
    logits = 5 * torch.randn(6, 4, dtype=torch.float64)
    cotangents = label_cotangents(logits, check_labels(None, 6, 4, logits.device))
    total = (logits.softmax(1)[..., None] * cotangents).sum(1)
    assert_same(total, torch.zeros_like(total))


def test_no_labels_mean_all() -> None:
    labels = check_labels(None, 2, 3, torch.device("cpu"))
    assert labels.tolist() == [[0, 1, 2], [0, 1, 2]]


def test_a_label_out_of_range_is_named() -> None:
    with pytest.raises(GradnetError, match="label 7 is out of range: .* 3 logits"):
        check_labels(torch.tensor([[0, 7]]), 1, 3, torch.device("cpu"))
