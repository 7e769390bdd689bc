"""Rows enter a store as planned, or not at all; see test_writer.py for whole stores."""

import pytest
import torch
from store_cases import make_plan, make_rows

from gradnet.errors import InvalidInputError
from gradnet.store.row_checks import check_chunk, first_outside


def test_whole_rows_are_counted() -> None:
    plan = make_plan()
    assert check_chunk(plan, make_rows(plan, 2, 5)) == 6


@pytest.mark.parametrize("dtype", [torch.int32, torch.bool, torch.complex64])
@pytest.mark.parametrize("name", ["label", "logits", "block/conv"])
def test_no_type_is_cast(name: str, dtype: torch.dtype) -> None:
    plan = make_plan()
    rows = make_rows(plan, 0, 1)
    rows[name] = rows[name].to(dtype)
    with pytest.raises(InvalidInputError, match=f"{name} came as .*{dtype}"):
        check_chunk(plan, rows)


def test_the_first_label_out_of_range() -> None:
    assert first_outside(torch.tensor([0, 2, 1]), 3) is None
    assert first_outside(torch.tensor([0, 3, -1]), 3) == 1
    assert first_outside(torch.tensor([], dtype=torch.long), 3) is None
