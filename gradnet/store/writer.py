"""Writes a store shard by shard; the next run continues one that was killed."""

import json
import math
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import torch
from torch import Tensor

from gradnet.errors import BusyError, InvalidInputError
from gradnet.store.filesystem import Location, open_location
from gradnet.store.manifest import MANIFEST, StorePlan, readable_bytes
from gradnet.store.shard import (
    check_size,
    memory_of,
    shard_header,
    shard_name,
    shard_size,
    shard_views,
)

Rows = Mapping[str, Tensor]
MakeRows = Callable[[int, int], Iterable[Rows]]

# Numbers that are copied and checked at once: few enough to stay in the cache, and for
# torch to use one thread, which then never waits for another on the same core.
COPY_SIZE = 32_768


@dataclass(frozen=True)
class Survey:
    """The part of a store that is still to be written.

    Attributes:
        missing: numbers of the shards that are still to be written.
        samples: how many samples those have.
        bytes: of their files.
        free_bytes: at the location; None if unknown.
    """

    missing: tuple[int, ...]
    samples: int
    bytes: int
    free_bytes: int | None


def survey(
    location: str, plan: StorePlan, shards: tuple[int, int] | None = None
) -> Survey:
    """What :func:`write_store` would have to write; nothing is written here.

    Args:
        location: of the store, a folder or a URL; it need not exist.
        plan: of the store.
        shards: as for :func:`write_store`.

    Raises:
        InvalidInputError: the store there was made with another plan, or ``shards`` is
            not a valid share.
        DamagedFileError: a finished shard is truncated.
    """
    return _survey(open_location(location), plan, shards)


def write_store(
    location: str,
    plan: StorePlan,
    make_rows: MakeRows,
    shards: tuple[int, int] | None = None,
    on_progress: Callable[[int], object] = lambda samples: None,
) -> None:
    """Write the shards of a store that are not there yet.

    A shard is assembled in memory (which takes the size of a shard and of a chunk of
    rows), written under a temporary name, flushed to the disk and renamed. If the
    process is killed, finished shards are kept, and the store that the next run
    completes has the same bytes as one that was never interrupted, provided that
    ``make_rows`` gives the same rows.

    Several runs can divide the work by ``shards``. In a local folder, two runs never
    write the same shard: the second raises BusyError. Behind a URL nothing is locked.

    Args:
        location: a folder, or a URL that fsspec knows.
        plan: of the store.
        make_rows: is called with ``start, stop`` and yields the rows of these samples
            in order, any number n of samples at a time: ``block/<name>`` ``(n C, D)``
            in the plan's dtype; ``index`` (position in the data), ``label`` and
            ``target`` ``(n C,)`` int64; ``logits`` ``(n C, K)`` float32. They are
            copied, so the next rows may overwrite them.
        shards: ``(i, n)`` writes only the shards whose number modulo n is i; None
            writes all.
        on_progress: called with the number of samples just done.

    Raises:
        InvalidInputError: the store was made with another plan (the first field that
            differs is named) or exceeds the free space; or rows have another shape or
            dtype than planned, or are not finite.
        GradnetError: the disk is full, or a file cannot be written.
        BusyError: another run is writing one of these shards.
    """
    files = open_location(location)
    found = _survey(files, plan, shards)
    if found.free_bytes is not None and found.bytes > found.free_bytes:
        raise InvalidInputError(
            f"{location} has {readable_bytes(found.free_bytes)} free, the store needs "
            f"{readable_bytes(found.bytes)} more; free some space, or store fewer "
            "samples, labels or coordinates, or a smaller dtype"
        )
    _write_manifest(files, plan)
    _remove_stale_locks(files, plan, shards)
    if found.missing:
        _write_missing(files, plan, found.missing, make_rows, on_progress)


def _write_missing(
    files: Location,
    plan: StorePlan,
    missing: tuple[int, ...],
    make_rows: MakeRows,
    on_progress: Callable[[int], object],
) -> None:
    max_rows = max(map(plan.shard_rows, missing))
    buffer = torch.empty(max_rows * plan.row_bytes, dtype=torch.uint8)
    with ExitStack() as held:
        for number in missing:
            # The next lock is acquired before the last is released, so that a second
            # run on the same shards never finds all of them unlocked.
            lock = files.lock(_lock_name(number))
            held.close()
            held.enter_context(lock)
            if not files.exists(shard_name(number)):
                _write_shard(files, plan, number, buffer, make_rows, on_progress)
            else:  # written by another run since the survey
                on_progress(len(plan.shard_samples(number)))


def _survey(files: Location, plan: StorePlan, shards: tuple[int, int] | None) -> Survey:
    sizes = files.sizes()
    if MANIFEST in sizes:
        stored = StorePlan.from_manifest(files.read(MANIFEST), files.name)
        plan.check_compatible(stored, files.name)
    missing, free = [], files.free_bytes()
    for number in _share(plan, shards):
        size = sizes.get(shard_name(number))
        if size is None:
            missing.append(number)
            # Temporary files of a killed writer are deleted before it is written.
            stale = [n for n in sizes if n.startswith(f"{shard_name(number)}.")]
            free = None if free is None else free + sum(sizes[n] for n in stale)
        else:
            check_size(plan, number, size, files.name)
    return Survey(
        tuple(missing),
        sum(len(plan.shard_samples(number)) for number in missing),
        sum(shard_size(plan, number) for number in missing),
        free,
    )


def _share(plan: StorePlan, shards: tuple[int, int] | None) -> range:
    first, step = shards or (0, 1)
    if not 0 <= first < step:
        raise InvalidInputError(
            f"there is no share {first} of {step}: shares go from 0 to n - 1 of n"
        )
    return range(first, plan.num_shards, step)


def _lock_name(number: int) -> str:
    return shard_name(number).removesuffix(".safetensors")


def _write_manifest(files: Location, plan: StorePlan) -> None:
    """Write the manifest if there is none; check that an existing one fits."""
    sizes = files.sizes()
    if MANIFEST in sizes and not any(n.startswith(f"{MANIFEST}.") for n in sizes):
        return
    with files.lock(MANIFEST, wait=True):
        if files.exists(MANIFEST):  # written by another run since
            stored = StorePlan.from_manifest(files.read(MANIFEST), files.name)
            plan.check_compatible(stored, files.name)
        else:
            text = json.dumps(plan.manifest, indent=2) + "\n"
            files.write(MANIFEST, [text.encode()])


def _remove_stale_locks(
    files: Location, plan: StorePlan, shards: tuple[int, int] | None
) -> None:
    """Remove the lock files of finished shards that a kill left behind."""
    sizes = files.sizes()
    for number in _share(plan, shards):
        if shard_name(number) in sizes and f"{_lock_name(number)}.lock" in sizes:
            # Acquiring and releasing a lock deletes its file; one that is held is
            # not stale.
            with suppress(BusyError), files.lock(_lock_name(number)):
                pass


def _write_shard(
    files: Location,
    plan: StorePlan,
    number: int,
    buffer: Tensor,
    make_rows: MakeRows,
    on_progress: Callable[[int], object],
) -> None:
    samples = plan.shard_samples(number)
    views = shard_views(plan, number, buffer)
    row, rows = 0, plan.shard_rows(number)
    for chunk in make_rows(samples.start, samples.stop):
        count = _check_chunk(plan, chunk)
        if row + count > rows:
            raise InvalidInputError(_wrong_number_of_rows(samples, row + count, rows))
        for name, view in views.items():
            if not _copy(view[row : row + count], chunk[name]):
                raise InvalidInputError(_not_finite(name, chunk))
        row += count
        on_progress(count // plan.labels_per_sample)
    if row != rows:
        raise InvalidInputError(_wrong_number_of_rows(samples, row, rows))
    data = memory_of(buffer)[: rows * plan.row_bytes]
    header = shard_header(plan, number, zlib.crc32(data))
    files.write(shard_name(number), [header, data])


def _wrong_number_of_rows(samples: range, found: int, expected: int) -> str:
    return (
        f"samples {samples.start} to {samples.stop - 1} gave {found} rows in place of "
        f"{expected}; make_rows must yield the samples that it is asked for, once"
    )


def _check_chunk(plan: StorePlan, chunk: Rows) -> int:
    """The number of rows, when everything has its shape and dtype."""
    if set(chunk) != set(plan.tensors):
        odd = sorted(set(chunk) ^ set(plan.tensors))
        raise InvalidInputError(
            f"rows must have {', '.join(plan.tensors)}; missing or unknown: "
            + ", ".join(odd)
        )
    count = len(chunk["index"])
    if count % plan.labels_per_sample:
        raise InvalidInputError(
            f"{count} rows came at once, at {plan.labels_per_sample} labels a sample; "
            "make_rows must yield whole samples"
        )
    for name, (shape, dtype) in plan.tensors.items():
        given = chunk[name]
        if given.shape != (count, *shape) or given.dtype != dtype:
            raise InvalidInputError(
                f"{name} came as {tuple(given.shape)} of {given.dtype}, the plan has "
                f"{(count, *shape)} of {dtype}"
            )
    return count


def _copy(target: Tensor, source: Tensor) -> bool:
    """Copy rows; return whether all of them are finite."""
    is_float, finite = target.is_floating_point(), True
    flat = source.detach().cpu().reshape(-1)
    for to, of in zip(
        target.view(-1).split(COPY_SIZE), flat.split(COPY_SIZE), strict=True
    ):
        to.copy_(of)
        # Minimum and maximum need no memory of their own, and both propagate NaN.
        if is_float and not all(math.isfinite(end.item()) for end in to.aminmax()):
            finite = False
    return finite


def _not_finite(name: str, rows: Rows) -> str:
    row = int(rows[name].isfinite().all(1).logical_not().nonzero()[0])
    return (
        f"{name} of sample {int(rows['index'][row])} at label "
        f"{int(rows['label'][row])} is not finite in {rows[name].dtype}; leave the "
        "sample out, correct the network, or choose a wider dtype"
    )
