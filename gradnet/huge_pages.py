"""Large new tensors on huge pages, which are written several times as fast."""

import math
import mmap
from collections.abc import Sequence

import torch
from torch import Tensor

# Below this the allocator gives back memory that was used before.
SMALLEST_BYTES = 8_000_000


def new_empty(
    shape: Sequence[int], dtype: torch.dtype, device: torch.device | str
) -> Tensor:
    """A tensor of a shape, as ``torch.empty`` makes it.

    What is large and on the CPU is mapped with the wish for huge pages: the first write
    to each page is a trap to the kernel, and of 2 MB pages there are 512 times fewer.
    Where the system has none, it is ordinary memory.
    """
    size = math.prod(shape) * dtype.itemsize
    is_large_here = torch.device(device).type == "cpu" and size >= SMALLEST_BYTES
    if not is_large_here or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.empty(tuple(shape), dtype=dtype, device=device)
    # Shared memory, the default, has no huge pages.
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    try:
        memory.madvise(mmap.MADV_HUGEPAGE)
    except OSError:  # a kernel without them
        pass
    return torch.frombuffer(memory, dtype=dtype).view(tuple(shape))
