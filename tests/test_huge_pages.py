"""New tensors are what was asked for, large or small, and end with their last user."""

import gc

import pytest
import torch

from gradnet import huge_pages
from gradnet.huge_pages import new_empty


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 5), (0, 4), (), (1000, 3001), (1 << 23,)])
def test_shape_and_type(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    tensor = new_empty(shape, dtype, "cpu")
    assert tensor.shape == shape and tensor.dtype == dtype
    assert tensor.is_contiguous() and not tensor.requires_grad
    tensor.fill_(1.5)
    assert (tensor == 1.5).all()


def test_views_keep_the_memory() -> None:
    view = new_empty((huge_pages.SMALLEST_BYTES,), torch.float32, "cpu").zero_()[5:]
    gc.collect()
    assert float(view.sum()) == 0


def test_memory_is_given_back() -> None:
    import resource

    def work() -> None:
        new_empty((50_000_000,), torch.float32, "cpu").zero_()

    work()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(5):
        work()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 50_000
