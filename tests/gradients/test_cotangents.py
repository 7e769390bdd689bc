"""Cotangents are the slopes of the loss in the logits, label by label."""

import pytest
import torch
from reference import assert_same
from torch import Tensor
from torch.nn import functional

from gradnet.errors import InvalidInputError
from gradnet.gradients import GradientExtractor
from gradnet.gradients.cotangents import (
    LOSSES,
    Loss,
    label_cotangents,
    loss_cotangents,
    register_loss,
)
from gradnet.gradients.inputs import check_labels


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


def test_a_registered_loss_is_found_by_its_name() -> None:
    model, x = torch.nn.Linear(3, 4).double(), torch.randn(2, 3).double()
    register_loss("smooth", smooth)
    try:
        named = GradientExtractor(model, loss="smooth").all_labels(x)
        with pytest.raises(InvalidInputError, match="'smooth' exists already"):
            register_loss("smooth", functional.cross_entropy)
    finally:
        LOSSES.unregister("smooth")
    assert_same(named, GradientExtractor(model, loss=smooth).all_labels(x))
    with pytest.raises(InvalidInputError, match="no loss 'smooth'"):
        GradientExtractor(model, loss="smooth")


def test_cross_entropy_keeps_its_meaning() -> None:
    with pytest.raises(InvalidInputError, match="cannot be replaced"):
        register_loss("cross_entropy", smooth, replace=True)
    with pytest.raises(InvalidInputError, match="give a function"):
        register_loss("none", 3)
