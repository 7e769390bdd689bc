"""Work is done on every piece once, in the caller's modes, and settings come back."""

import threading

import pytest
import torch

from gradnet.core.threads import for_each_piece

COUNTS = pytest.mark.parametrize("num_threads", [1, 2, 3])


@COUNTS
def test_every_piece_is_worked_on_once(num_threads: int) -> None:
    torch.set_num_threads(num_threads)
    done = []
    for_each_piece(lambda a, b: done.append((a, b)), range(9), "abcdefghi")
    assert sorted(done) == list(enumerate("abcdefghi"))


@COUNTS
def test_no_pieces_are_no_work(num_threads: int) -> None:
    torch.set_num_threads(num_threads)
    for_each_piece(pytest.fail, [])


@COUNTS
@pytest.mark.parametrize("is_failing", [False, True])
def test_torch_has_its_threads_again(num_threads: int, is_failing: bool) -> None:
    torch.set_num_threads(num_threads)
    inside = []

    def work(piece: int) -> None:
        inside.append(torch.get_num_threads())
        if is_failing and piece == 2:
            raise ValueError("piece 2")

    if is_failing:
        with pytest.raises(ValueError, match="piece 2"):
            for_each_piece(work, range(5))
    else:
        for_each_piece(work, range(5))
    assert set(inside) == {1}
    assert torch.get_num_threads() == num_threads
    seen_elsewhere = []
    other = threading.Thread(
        target=lambda: seen_elsewhere.append(torch.get_num_threads())
    )
    other.start()
    other.join()
    assert seen_elsewhere == [num_threads]


def test_as_many_threads_as_torch_has_work_at_once() -> None:
    torch.set_num_threads(2)
    both = threading.Barrier(2, timeout=20)
    for_each_piece(lambda piece: both.wait(), range(4))


@COUNTS
@pytest.mark.parametrize("is_inference", [False, True])
def test_inference_mode_is_that_of_the_caller(
    num_threads: int, is_inference: bool
) -> None:
    torch.set_num_threads(num_threads)
    modes = []

    def work(piece: int) -> None:
        modes.append((torch.is_inference_mode_enabled(), torch.is_grad_enabled()))

    with torch.inference_mode(is_inference):
        for_each_piece(work, range(3))
    assert modes == [(is_inference, False)] * 3
