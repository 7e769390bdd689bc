"""Peak memory of a computation, measured, and how much work fits a budget."""

import functools
import re
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gradnet.core.constraints import Constraint
from gradnet.errors import GradnetError

# Memory of one chunk: larger ones were not faster on a CPU, and fill a GPU.
BUDGETS = {"cpu": "512MB", "cuda": "4GB"}

# Of twice as many samples: from here on next to all memory is the samples'.
PROPORTIONAL_GROWTH = 1.8

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def parse_bytes(text: str | float) -> int:
    """``"2GB"``, ``"500 MB"`` or a number of bytes, as a number of bytes.

    Raises:
        GradnetError: it is neither, or not positive.
    """
    match = re.fullmatch(r"\s*([\d.]+(?:e\d+)?)\s*([KMGT]?B?)\s*", str(text), re.I)
    unit = match[2].upper() if match else ""
    try:
        value = int(float(match[1]) * UNITS[unit.removesuffix("B")]) if match else 0
    except (ValueError, OverflowError):
        value = 0
    if value < 1:
        raise GradnetError(f"{text!r} is no amount of memory; say 2GB or 500MB")
    return value


def asked_bytes(error: BaseException) -> int | None:
    """How much memory a failed allocation of torch or numpy asked for.

    Returns:
        Bytes; 0 where it does not say how many; None where it is another error.
    """
    text = str(error)
    found = re.search(r"to allocate ([\d.]+) ?(bytes|[KMGTP]i?B)", text, re.I)
    if found:
        unit = found[2].upper()
        base = 1024 if "I" in unit else 1000
        power = 0 if unit == "BYTES" else "KMGTP".index(unit[0]) + 1
        return int(float(found[1]) * base**power)
    is_failed = isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        part in text for part in ("Storage size calculation overflowed", "numel: int")
    )
    return 0 if is_failed else None


def is_failed_allocation(error: BaseException) -> bool:
    """Whether an exception says that there is not enough memory."""
    return asked_bytes(error) is not None


class _MemorySizeForm(Constraint):
    """Text that :func:`parse_bytes` reads."""

    def allows(self, value: Any) -> bool:
        """Whether it does."""
        try:
            return parse_bytes(value) <= 10**15
        except GradnetError:
            return False

    def __str__(self) -> str:
        return "an amount of memory such as 500MB or 2GB, at most 1000TB"


MemorySize = Annotated[str, _MemorySizeForm()]


def peak_bytes(function: Callable[[], object], device: torch.device) -> int:
    """The most memory that tensors take at once while ``function`` runs, in bytes.

    What was there before is not counted. On a GPU the allocator knows; on a CPU the
    tensors that operations return are followed until they die. Work space inside an
    operation is not seen there.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        function()
        torch.cuda.synchronize(device)
        return int(torch.cuda.max_memory_allocated(device) - before)
    with _LiveTensors() as live:
        function()
    return live.peak


class _LiveTensors(TorchDispatchMode):
    """Counts the bytes of all storages that were made and still live."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        known = {id_of(t) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and id_of(tensor) not in known:
                self._follow(tensor.untyped_storage())
        return result

    def _follow(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes()

        def forget(reference: object) -> None:
            self.now -= size
            del self._known[key]

        self._known[key] = weakref.ref(storage, forget)
        self.now += size
        self.peak = max(self.peak, self.now)


def id_of(tensor: Tensor) -> int:
    """What tensors of one storage share."""
    return tensor.untyped_storage()._cdata


@dataclass(frozen=True)
class _Fitting:
    """What is known of a kind of work.

    Attributes:
        measured: samples that were measured.
        peak: bytes that they took.
        fits: samples that fit the budget for certain.
        is_final: no more are to be measured.
    """

    measured: int
    peak: int
    fits: int
    is_final: bool


class ChunkSizes:
    """How many samples are worked on at once: one memory budget for all kinds of work.

    Args:
        chunk_size: always so many; None measures.
        max_memory: what a chunk may take, such as ``"2GB"``; None takes the device's of
            :data:`BUDGETS`.

    Raises:
        GradnetError: one of them is not positive.
    """

    def __init__(self, chunk_size: int | None, max_memory: str | float | None) -> None:
        if chunk_size is not None and chunk_size < 1:
            raise GradnetError(f"chunk_size is {chunk_size}; it must be at least 1")
        self.chunk_size = chunk_size
        self.max_memory = None if max_memory is None else parse_bytes(max_memory)
        self._measured: dict[object, tuple[int, int]] = {}
        self._fitting: dict[object, _Fitting] = {}

    def budget(self, device: torch.device) -> int:
        """What a chunk may take on a device, in bytes."""
        default = BUDGETS.get(device.type, BUDGETS["cpu"])
        return self.max_memory or parse_bytes(default)

    def find(
        self,
        key: object,
        work: Callable[[int], object],
        num_labels: int,
        device: torch.device,
    ) -> int:
        """The number of samples that fit; at least one.

        Args:
            key: of the kind of work; each kind is measured once.
            work: does it for one sample at so many labels; measured at one and at two,
                since what a sample takes is linear in them.
            num_labels: at how many labels it is to be done.
            device: where.
        """
        if self.chunk_size is not None:
            return self.chunk_size
        if key not in self._measured:
            work(1)  # what is only made once is not a sample's
            first, second = (
                peak_bytes(functools.partial(work, count), device) for count in (1, 2)
            )
            self._measured[key] = first, max(0, second - first)
        first, further = self._measured[key]
        needed = max(1, first + (num_labels - 1) * further)
        return max(1, self.budget(device) // needed)

    def find_up_to(
        self,
        count: int,
        key: object,
        work: Callable[[int], object],
        device: torch.device,
    ) -> int:
        """How many of ``count`` samples fit, where some memory is not a sample's.

        Weights and their gradients take the same memory for any number of samples, so
        one sample tells little about many. The work is measured on 1, 2, 4, ... samples
        until further ones take as much each as the measured ones. Nothing is tried that
        could be over budget but one sample: memory grows at most in proportion.

        Args:
            count: samples there are; work is done for that many at most.
            key: of the kind of work; what was measured of one kind is kept.
            work: does it for so many samples.
            device: where.

        Returns:
            From 1 to ``count``; 1 for a count of 0.
        """
        if self.chunk_size is not None:
            return self.chunk_size
        found = self._fitting.get(key)
        while count and (found is None or (found.fits < count and not found.is_final)):
            samples = 1 if found is None else min(2 * found.measured, count)
            work(samples)  # what is only made once is not counted
            peak = max(1, peak_bytes(functools.partial(work, samples), device))
            fits = max(1, samples * self.budget(device) // peak)
            is_final = fits < 2 * samples or (
                found is not None
                and samples == 2 * found.measured
                and peak >= PROPORTIONAL_GROWTH * found.peak
            )
            found = self._fitting[key] = _Fitting(samples, peak, fits, is_final)
        return max(1, min(count, found.fits if found else 1))
