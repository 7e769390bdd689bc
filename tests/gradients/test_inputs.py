"""Samples and labels are checked before anything is computed."""

import pytest
import torch
from torch import nn

from gradnet.errors import InvalidInputError
from gradnet.gradients.inputs import check_inputs, check_labels


def test_no_labels_mean_all() -> None:
    labels = check_labels(None, 2, 3, torch.device("cpu"))
    assert labels.tolist() == [[0, 1, 2], [0, 1, 2]]


def test_a_label_out_of_range_is_named() -> None:
    with pytest.raises(InvalidInputError, match="label 7 is out of range: .* 3 logits"):
        check_labels(torch.tensor([[0, 7]]), 1, 3, torch.device("cpu"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool])
def test_labels_are_whole_numbers(dtype: torch.dtype) -> None:
    with pytest.raises(InvalidInputError, match="whole numbers"):
        check_labels(torch.ones(1, 2, dtype=dtype), 1, 3, torch.device("cpu"))


@pytest.mark.parametrize("count", [0, 2])
def test_the_model_is_run_on_one_sample_at_most(count: int) -> None:
    counts = []

    class Model(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            counts.append(len(x))
            return x.mul_(2)  # and may overwrite it

    x = torch.ones(count, 3)
    labels, num_logits = check_inputs(Model(), x, None)
    assert counts == [1] and num_logits == 3 and labels.shape == (count, 3)
    assert torch.equal(x, torch.ones(count, 3))
