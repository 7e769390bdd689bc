"""Threads that each work on whole pieces, instead of sharing every operation."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch


def for_each_piece(work: Callable[..., None], *pieces: Sequence[object]) -> None:
    """Call a function for every piece, on as many threads as torch is set to use.

    Meanwhile each thread runs torch's operations on one core. torch alone would divide
    every single operation among the cores and wait for the slowest of them: where
    another process kept one of two cores busy, small operations took five times as long
    as on one core.

    Args:
        work: called with one element of each sequence, from several threads at once,
             in the caller's inference mode and without recorded gradients.
        pieces: sequences of equal length.
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
