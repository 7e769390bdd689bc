"""The first look at a shard in a process: its checksum, its labels and its numbers."""

import logging
import math
import os
import zlib

from gradnet.errors import DamagedFileError
from gradnet.store.manifest import StorePlan
from gradnet.store.row_checks import first_outside
from gradnet.store.shard import REMEDY, Shard, memory_of

logger = logging.getLogger("gradnet")

# Numbers that are looked at while they are in the cache.
PIECE = 262_144

Identity = tuple[object, ...]

_verified: set[Identity] = set()
_labelled: set[Identity] = set()
_warned: set[str] = set()


def check_once(shard: Shard, plan: StorePlan, number: int, verify: bool = True) -> None:
    """Check a shard, unless this process has checked the same file before.

    Args:
        shard: just opened.
        plan: of its store.
        number: of the shard.
        verify: compare its checksum and look for numbers that are not finite, which
            reads all of it; otherwise labels alone are looked at.

    Raises:
        DamagedFileError: some bytes are not those that were written, a label or target
            is out of range, or a number is not finite.
    """
    status = shard.path.stat()
    identity = (
        *(os.path.realpath(shard.path), shard.crc32, number, plan.digest),
        *(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns),
    )
    if verify and identity not in _verified:
        verify_shard(shard, plan)
        _verified.add(identity)
        _labelled.add(identity)
    elif identity not in _labelled:
        _check_labels(shard, plan)
        _labelled.add(identity)


def verify_shard(shard: Shard, plan: StorePlan) -> None:
    """Read all of a shard, and compare it with its checksum.

    Raises:
        DamagedFileError: as for :func:`check_once`.
    """
    checksum, not_finite = 0, None
    for name, tensor in shard.tensors.items():
        for piece in tensor.view(-1).split(PIECE):
            checksum = zlib.crc32(memory_of(piece), checksum)
            # Minimum and maximum need no memory of their own, and both propagate NaN.
            if piece.is_floating_point() and not_finite is None:
                if not all(math.isfinite(end.item()) for end in piece.aminmax()):
                    not_finite = name
    if shard.crc32 is None:
        _warn_once(str(shard.path.parent))
    elif f"{checksum:08x}" != shard.crc32:
        raise DamagedFileError(
            f"{shard.path} is damaged: its checksum is {checksum:08x}, it was "
            f"{shard.crc32} when it was written; {REMEDY}"
        )
    _check_labels(shard, plan)
    if not_finite is not None:
        values = shard.tensors[not_finite]
        row = int(values.isfinite().all(1).logical_not().nonzero()[0])
        raise DamagedFileError(
            f"{shard.path}: {not_finite} of {_row_name(shard, plan, row)} is not "
            f"finite; {REMEDY}"
        )


def _check_labels(shard: Shard, plan: StorePlan) -> None:
    for name in ("label", "target"):
        values = shard.tensors[name]
        row = first_outside(values, plan.num_logits)
        if row is not None:
            raise DamagedFileError(
                f"{shard.path}: the {name} of {_row_name(shard, plan, row)} is "
                f"{int(values[row])}, out of range: there are {plan.num_logits} "
                f"logits; {REMEDY}"
            )


def _row_name(shard: Shard, plan: StorePlan, row: int) -> str:
    return f"sample {shard.samples.start + row // plan.labels_per_sample}"


def _warn_once(store: str) -> None:
    if store not in _warned:
        _warned.add(store)
        logger.warning(
            "%s was written without checksums: damage to it cannot be seen", store
        )
