"""Measures peak memory, and how many samples fit a memory budget."""

import functools
import re
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gradnet.errors import InvalidInputError

# Memory of one chunk. Larger chunks were not faster on a CPU; this fills a GPU.
BUDGETS = {"cpu": "512MB", "cuda": "4GB"}

# If twice as many samples take so many times the memory, memory is taken to grow in
# proportion to the samples.
PROPORTIONAL_GROWTH = 1.8

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def parse_bytes(text: str | float) -> int:
    """``"2GB"``, ``"500 MB"`` or a number of bytes, as a number of bytes.

    Raises:
        InvalidInputError: it is neither, or not positive.
    """
    match = re.fullmatch(r"\s*([\d.]+(?:e\d+)?)\s*([KMGT]?B?)\s*", str(text), re.I)
    unit = match[2].upper() if match else ""
    try:
        value = int(float(match[1]) * UNITS[unit.removesuffix("B")]) if match else 0
    except ValueError:
        value = 0
    if value < 1:
        raise InvalidInputError(f"{text!r} is no amount of memory; say 2GB or 500MB")
    return value


def peak_bytes(function: Callable[[], object], device: torch.device) -> int:
    """The peak memory of tensors while ``function`` runs, in bytes.

    Memory that was in use before is not counted. On a GPU the allocator reports the
    peak; on a CPU the tensors that operations return are tracked until they are freed,
    and workspace inside an operation is missed.
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
    """Counts the bytes of all storages that were allocated and not yet freed."""

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
    """A number that is the same for all tensors of one storage."""
    return tensor.untyped_storage()._cdata


@dataclass(frozen=True)
class _Fitting:
    """What was measured of one kind of work.

    Attributes:
        measured: the number of samples of the last measurement.
        peak: bytes that they took.
        fits: samples that are known to fit the budget.
        is_final: whether no further measurement is needed.
    """

    measured: int
    peak: int
    fits: int
    is_final: bool


class ChunkSizes:
    """The number of samples of a chunk: one memory budget for all kinds of work.

    Args:
        chunk_size: a fixed number of samples; None measures how many fit.
        max_memory: of a chunk, in bytes or such as ``"2GB"``; None takes the default of
            the device in :data:`BUDGETS`.

    Raises:
        InvalidInputError: one of them is not positive.
    """

    def __init__(self, chunk_size: int | None, max_memory: str | float | None) -> None:
        if chunk_size is not None and chunk_size < 1:
            raise InvalidInputError(
                f"chunk_size is {chunk_size}; it must be at least 1"
            )
        self.chunk_size = chunk_size
        self.max_memory = None if max_memory is None else parse_bytes(max_memory)
        self._measured: dict[object, tuple[int, int]] = {}
        self._fitting: dict[object, _Fitting] = {}

    def budget(self, device: torch.device) -> int:
        """The memory of a chunk on a device, in bytes."""
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
            key: identifies the kind of work; each kind is measured once.
            work: does it for one sample at a given number of labels; measured at one
                and at two, since the memory of a sample is linear in the labels.
            num_labels: the number of labels to find the samples for.
            device: where the work is done.
        """
        if self.chunk_size is not None:
            return self.chunk_size
        if key not in self._measured:
            work(1)  # so that what is allocated only once is not counted
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
        """How many of ``count`` samples fit, where part of the memory is shared.

        Weights and their gradients take the same memory for any number of samples, so a
        measurement of one sample says little about many. The work is measured on 1, 2,
        4, ... samples until memory grows in proportion to them. Memory never grows
        faster than that, so only a single sample can exceed the budget while measuring.

        Args:
            count: the number of samples there are, and the most that are measured.
            key: identifies the kind of work; measurements of one kind are kept.
            work: does it for a given number of samples.
            device: where the work is done.

        Returns:
            From 1 to ``count``; 1 for a count of 0.
        """
        if self.chunk_size is not None:
            return self.chunk_size
        found = self._fitting.get(key)
        while count and (found is None or (found.fits < count and not found.is_final)):
            samples = 1 if found is None else min(2 * found.measured, count)
            work(samples)  # so that what is allocated only once is not counted
            peak = max(1, peak_bytes(functools.partial(work, samples), device))
            fits = max(1, samples * self.budget(device) // peak)
            is_final = fits < 2 * samples or (
                found is not None
                and samples == 2 * found.measured
                and peak >= PROPORTIONAL_GROWTH * found.peak
            )
            found = self._fitting[key] = _Fitting(samples, peak, fits, is_final)
        return max(1, min(count, found.fits if found else 1))
