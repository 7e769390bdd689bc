"""Weights are copied exactly, or not at all."""

import pytest
import torch
from torch import Tensor, nn

from gradnet.checkpoints.exact_weights import load_exactly
from gradnet.errors import DamagedFileError


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_stand_for_each_other(dtype: torch.dtype) -> None:
    model = nn.Linear(2, 1)
    tensors = {"weight": torch.ones(1, 2, dtype=dtype), "bias": torch.ones(1)}
    load_exactly(model, tensors, "a")
    assert model.weight.dtype == torch.float32 and model.weight.tolist() == [[1, 1]]


@pytest.mark.parametrize(
    ("weight", "reason"),
    [
        (torch.ones(1, 2, dtype=torch.int32), "has the type int32, the model's has"),
        (torch.ones(1, 2, dtype=torch.bool), "has the type bool"),
        (torch.ones(1, 2, dtype=torch.complex64), "has the type complex64"),
        (torch.ones(1, 2).to(torch.float8_e4m3fn), "has the type float8_e4m3fn"),
        (torch.ones(1, 2).to_sparse(), "is a sparse tensor"),
        (torch.ones(1, 2).to("meta"), "is a meta"),
        (torch.full((1, 2), 1e300, dtype=torch.float64), "not finite"),
    ],
)
def test_other_kinds_are_never_cast(weight: Tensor, reason: str) -> None:
    model = nn.Linear(2, 1)
    before = model.weight.detach().clone()
    with pytest.raises(DamagedFileError, match=f"weight {reason}|weight .*{reason}"):
        load_exactly(model, {"weight": weight, "bias": torch.ones(1)}, "a")
    assert torch.equal(model.weight, before)


def test_counts_stay_integers() -> None:
    model = nn.BatchNorm1d(2)
    tensors = dict(model.state_dict())
    load_exactly(model, tensors, "a")
    with pytest.raises(DamagedFileError, match="num_batches_tracked has the type"):
        load_exactly(model, tensors | {"num_batches_tracked": torch.tensor(1.0)}, "a")
