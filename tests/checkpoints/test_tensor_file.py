"""Tests of gradnet/checkpoints/tensor_file.py."""

from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from gradnet.checkpoints.exact_weights import load_exactly
from gradnet.checkpoints.tensor_file import (
    load_with_header,
    save_with_header,
)
from gradnet.errors import GradnetError


def test_tensors_and_header_are_read_as_they_were_written(tmp_path: Path) -> None:
    strided = torch.arange(6.0).reshape(2, 3).T
    path = save_with_header(tmp_path / "file", {"weight": strided}, {"a": [1, None]})
    header, tensors = load_with_header(path)
    assert header == {"a": [1, None]}
    assert list(tensors) == ["weight"]
    assert torch.equal(tensors["weight"], strided)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(GradnetError, match="absent: no such file"):
        load_with_header(tmp_path / "absent")


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = save_with_header(tmp_path / "file", {"weight": torch.ones(9)}, {})
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(GradnetError, match="copied in full"):
        load_with_header(path)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [(None, "not written by gradnet"), ({"gradnet": "{"}, "damaged header")],
)
def test_a_file_without_a_readable_header_is_refused(
    metadata: dict[str, str] | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    safetensors.torch.save_file({"weight": torch.ones(2)}, path, metadata)
    with pytest.raises(GradnetError, match=message):
        load_with_header(path)


def test_weights_that_do_not_fit_leave_the_model_unchanged() -> None:
    model = nn.Linear(2, 1)
    before = model.weight.detach().clone()
    bad = {"weight": torch.full((1, 2), torch.nan), "scale": torch.ones(1)}
    with pytest.raises(GradnetError) as error:
        load_exactly(model, bad, "file")
    for part in ("missing: bias", "not in the model: scale", "weight has values"):
        assert part in str(error.value)
    assert torch.equal(model.weight, before)
