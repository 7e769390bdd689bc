"""What is measured: seconds in turn, peak memory, and the machine's ceilings."""

import gc
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import torch
from methods import (
    METHODS,
    Method,
    allow_tf32,
    in_chunks,
    quiet,
    summed_loss,
    wanted,
)
from networks import NUM_CLASSES, make
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

# To be imported once by the process that all measured processes are forked from.
PRELOADED = [
    "gradnet.gradients.extractor",
    "opacus",
    "backpack",
    "torch.utils.flop_counter",
]


def interleaved(
    functions: Mapping[str, Callable[[], object]], rounds: int, device: torch.device
) -> dict[str, list[float]]:
    """Seconds of each function, one a round; each has been called before."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            gc.collect()
            synchronize(device)
            start = time.perf_counter()
            result = function()
            synchronize(device)
            seconds[name].append(time.perf_counter() - start)
            del result
    return seconds


def best_chunk(method: Method, model: nn.Module, x: Tensor) -> int:
    """How many samples at a time are fastest: all, a quarter or a sixteenth."""
    seconds = {}
    for size in {max(1, len(x) // parts) for parts in (1, 4, 16)}:
        run = method(model, x[:size])
        run()  # the first call prepares
        times = interleaved({"chunk": run}, 2, x.device)["chunk"]
        seconds[size] = min(times) / size
    return min(seconds, key=lambda size: seconds[size])


def synchronize(device: torch.device) -> None:
    """Wait for a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Ceilings:
    """Large matrix products and a large copy: what the machine can reach.

    Attributes:
        functions: to be timed among what is compared with them.
    """

    def __init__(self, device: torch.device) -> None:
        on_gpu = device.type == "cuda"
        self._side = 8192 if on_gpu else 2048
        square = torch.randn(self._side, self._side, device=device)
        half = square.bfloat16()
        self._source = torch.randn((2**30 if on_gpu else 2**27) // 4, device=device)
        target = torch.empty_like(self._source)
        self.functions: dict[str, Callable[[], object]] = {
            "matrix product": partial(torch.mm, square, square),
            "copy": partial(target.copy_, self._source),
        }
        if on_gpu:
            self.functions["matrix product, TF32"] = partial(_in_tf32, square)
            self.functions["matrix product, bfloat16"] = partial(torch.mm, half, half)

    def rates(self, seconds: Mapping[str, list[float]]) -> dict[str, float]:
        """FLOP/s of the products and bytes/s of the copy, read and written."""
        amounts = dict.fromkeys(self.functions, 2 * self._side**3)
        amounts["copy"] = 2 * self._source.nbytes
        return {
            name: amount / statistics.median(seconds[name])
            for name, amount in amounts.items()
        }


def _in_tf32(square: Tensor) -> Tensor:
    allow_tf32(True)
    try:
        return square @ square
    finally:
        allow_tf32(False)


def count_flops(model: nn.Module, x: Tensor) -> int:
    """Operations of the method: what no engine for gradients at all labels can avoid.

    One forward pass, and for each of K labels a backward pass through activations and
    the products that make the weights' gradients. Counted on plain autograd, whose
    backward pass sums over samples with as many operations: the wanted weights only,
    and no gradient of the images.
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as forward:
        loss = summed_loss(model(x), 0)
    with FlopCounterMode(display=False) as backward:
        torch.autograd.grad(loss, list(wanted(model).values()))
    once, each = forward.get_total_flops(), backward.get_total_flops()
    return int(once + NUM_CLASSES * each)


def _fresh_process() -> ProcessPoolExecutor:
    context = get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return ProcessPoolExecutor(max_workers=1, mp_context=context)


def start_process_server() -> None:
    """Start it while this process is small: a process inherits its parent's peak."""
    with _fresh_process() as pool:
        pool.submit(int).result()


def peak_megabytes(
    method: str, network: str, count: int, chunk: int, threads: int
) -> float:
    """Most memory of a process of its own that calls a method once, on a CPU.

    Counted from after the imports and the making of the network.
    """
    with _fresh_process() as pool:
        return pool.submit(_own_peak, method, network, count, chunk, threads).result()


def _own_peak(method: str, network: str, count: int, chunk: int, threads: int) -> float:
    quiet()
    torch.set_num_threads(threads)
    model, x = make(network, count)
    before = _resident_peak()
    in_chunks(METHODS[method], model, x, chunk)()
    return _resident_peak() - before


def _resident_peak() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
