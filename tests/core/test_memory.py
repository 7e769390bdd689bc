"""Peaks of known computations are found to the byte, and chunks fit their budget."""

import gc
import resource

import numpy as np
import pytest
import torch
from layer_cases import layer_case
from torch import nn

from gradnet.core.memory import ChunkSizes, asked_bytes, parse_bytes, peak_bytes
from gradnet.errors import InvalidInputError
from gradnet.gradients.extractor import GradientExtractor
from gradnet.models import build_model

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2GB", 2 * 10**9),
        ("500 MB", 500 * 10**6),
        ("1.5k", 1500),
        ("7B", 7),
        (1e6, 10**6),
        (12345, 12345),
    ],
)
def test_amounts_are_read(text: str | float, expected: int) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize(
    "text", ["", "much", "-1GB", "0", "2XB", "1..5MB", "nan", "9" * 400]
)
def test_no_amounts_are_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="no amount of memory; say 2GB"):
        parse_bytes(text)


def test_failed_allocations_say_how_much_was_asked_for() -> None:
    for make, expected in (
        (lambda: torch.empty(10**13), 4 * 10**13),
        (lambda: torch.empty(2**62), 0),
        (lambda: np.zeros(2**47), 2**50),
    ):
        with pytest.raises((RuntimeError, MemoryError)) as caught:
            make()
        assert asked_bytes(caught.value) == expected
    gpu = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    assert asked_bytes(gpu) == 2 * 2**30
    assert asked_bytes(RuntimeError("shapes do not fit")) is None


def test_what_died_before_does_not_count() -> None:
    def work() -> None:
        first = torch.zeros(1000)
        second = first + 1
        del first
        third = torch.cat([second, second])
        del second, third
        torch.zeros(10)

    assert peak_bytes(work, CPU) == 4 * 3000


def test_views_and_operations_in_place_take_nothing() -> None:
    outside = torch.zeros(100)

    def work() -> None:
        x = torch.zeros(1000)
        x.view(10, 100)[2:].mul_(2).t()
        outside.add_(1)

    assert peak_bytes(work, CPU) == 4 * 1000


def test_backward_passes_count() -> None:
    weight = torch.zeros(100, 100, requires_grad=True)

    def work() -> None:
        torch.autograd.grad(weight.exp().sum(), weight)

    assert peak_bytes(work, CPU) >= 2 * 4 * 10_000


def test_as_many_samples_as_fit() -> None:
    sizes = ChunkSizes(None, 4 * 1000)
    assert sizes.find("rows", lambda c: torch.zeros(10 + 10 * c, 5), 1, CPU) == 10
    # Measured once for each key, and true of any number of labels.
    assert sizes.find("rows", lambda c: torch.zeros(c, 999), 9, CPU) == 2
    assert sizes.find("larger", lambda c: torch.zeros(c, 100_000), 1, CPU) == 1


def test_a_size_that_was_given_is_taken() -> None:
    assert ChunkSizes(7, 1).find("rows", lambda c: torch.zeros(c, 100), 1, CPU) == 7


@pytest.mark.parametrize("engine", ["factored", "func"])
@pytest.mark.parametrize("budget", [2e6, 2e7])
def test_the_budget_is_kept(engine: str, budget: float) -> None:
    """By the tensors that live at once, of a chunk with its gradients."""
    model = build_model("cnn-small", width=8).eval()
    extractor = GradientExtractor(model, engine=engine, max_memory=budget)
    x = torch.randn(1000, 1, 8, 8)
    next(extractor.chunks(x[:2]))  # measured before

    def stream() -> None:
        for _ in extractor.chunks(x):
            pass

    peak = peak_bytes(stream, CPU) - x.nbytes  # its check for finite values
    assert 0.6 * budget <= peak <= 1.15 * budget


def resident_bytes() -> int:
    gc.collect()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_nothing_leaks_over_many_chunks() -> None:
    found = layer_case("conv2d")
    extractor = GradientExtractor(found.model, chunk_size=1)
    x = found.x[:1].expand(1000, -1, -1, -1)
    kinds = (torch.Tensor, nn.Module)

    def live() -> int:
        gc.collect()
        return sum(issubclass(type(thing), kinds) for thing in gc.get_objects())

    list(map(len, extractor.chunks(x[:3])))
    before = live()
    counts = [live() for part, *_ in extractor.chunks(x) if part.start % 250 == 0]
    assert len(counts) == 4 and max(counts) == counts[0]
    assert live() == before


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_samples() -> None:
    model = build_model("cnn-small", width=16).eval()
    extractor = GradientExtractor(model, max_memory="50MB")

    def stream(count: int) -> None:
        for _ in range(count // 500):
            list(map(len, extractor.chunks(torch.randn(500, 1, 8, 8))))

    stream(1000)
    before = resident_bytes()
    stream(50_000)
    assert resident_bytes() <= 1.1 * before
