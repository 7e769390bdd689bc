"""A pool of threads that divides work by pieces, in place of torch's by operations."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch


def for_each_piece(work: Callable[..., None], *pieces: Sequence[object]) -> None:
    """Do the same work on every piece, on as many threads as torch has.

    While it lasts, torch gives each thread one core. torch itself would divide every
    single operation among the cores and wait for the slowest of them: where another
    process had one of two cores, small operations took five times as long as on one.

    Args:
        work: takes one element of each sequence; it may be called from several threads
            at once, in the caller's inference mode and without recorded gradients.
        pieces: sequences of one length.
    """
    is_inference = torch.is_inference_mode_enabled()

    def work_in_mode(*piece: object) -> None:
        # A new thread does not inherit the modes of the one that made it.
        with torch.inference_mode(is_inference), torch.no_grad():
            work(*piece)

    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if min(num_threads, len(pieces[0])) < 2:
            for piece in zip(*pieces, strict=True):
                work_in_mode(*piece)
        else:
            with ThreadPoolExecutor(num_threads) as pool:
                list(pool.map(work_in_mode, *pieces))
    finally:
        torch.set_num_threads(num_threads)
