"""Tuples that take no room and no end of time are refused before they are hashed."""

import time
from pathlib import Path

import pytest
import torch
from hostile_foreign import torch_bytes, tuple_bomb, with_pickle

from gradnet.core.pickle_bombs import check_tuples
from gradnet.errors import DamagedFileError


@pytest.mark.parametrize("content", [with_pickle(tuple_bomb()), tuple_bomb()])
def test_nested_tuples_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(content)
    start = time.monotonic()
    with pytest.raises(DamagedFileError, match="tuples within tuples"):
        check_tuples(path)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("is_zip", [True, False])
def test_state_dicts_pass(is_zip: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    state = {"model": torch.nn.Linear(3, 2).state_dict(), "shape": ((1, 2), (3,))}
    path.write_bytes(torch_bytes(state, _use_new_zipfile_serialization=is_zip))
    check_tuples(path)
