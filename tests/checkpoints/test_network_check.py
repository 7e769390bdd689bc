"""A network that does not take the data is told in one line, before any work."""

import pytest
import torch
from torch import nn

from gradnet.checkpoints.network_check import check_classes, logits_of
from gradnet.errors import GradnetError, InvalidInputError


class Returns(nn.Module):
    """Returns what it is given, called with the batch if it is a function."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, x):
        return self.make(x)


def fails(error):
    def raise_it(x):
        raise error

    return raise_it


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (fails(AttributeError("no pooler")), "fails on an image of .*: no pooler"),
        (fails(AssertionError()), "fails on an image of .*: AssertionError"),
        (lambda x: (x, x), "returns a tuple and not logits"),
        (lambda x: x, "returns torch.float32 of shape .* for 2 inputs"),
        (lambda x: x.flatten(1).long(), "returns torch.int64"),
        (lambda x: x[:1].flatten(1), r"of shape \(1, 12\) for 2 inputs"),
    ],
)
def test_what_is_wrong_is_named(make, message):
    with pytest.raises(InvalidInputError, match=message):
        logits_of(Returns(make), torch.zeros(2, 3, 2, 2))


def test_logits_need_no_gradient_and_our_own_errors_pass():
    x = torch.zeros(2, 4)
    assert not logits_of(nn.Linear(4, 3), x).requires_grad
    with pytest.raises(GradnetError, match="ours"):
        logits_of(Returns(fails(GradnetError("ours"))), x)
    with pytest.raises(MemoryError):
        logits_of(Returns(fails(MemoryError())), x)


def test_another_number_of_classes_is_refused():
    check_classes(torch.zeros(1, 3), 3)
    with pytest.raises(InvalidInputError, match="has 1000 logits, the data have 10"):
        check_classes(torch.zeros(1, 1000), 10)
    with pytest.raises(InvalidInputError, match="has 1 logit, the data have 2"):
        check_classes(torch.zeros(1, 1), 2)
