"""One shard of a store: a safetensors file whose bytes depend on its rows alone."""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from gradnet.core.plain_values import parse_json
from gradnet.core.regular_files import regular_file
from gradnet.core.text import reason_of
from gradnet.errors import DamagedFileError
from gradnet.store.manifest import StorePlan

METADATA = "gradnet"
WITHOUT_CHECKSUM = {"manifest", "samples"}
CHECKSUM = re.compile("[0-9a-f]{8}")
REMEDY = (
    "delete it and run again what wrote the store: only this shard is then rewritten"
)
SAFETENSORS_DTYPES = {
    torch.int64: "I64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
}


@dataclass(frozen=True)
class Shard:
    """One shard, its tensors mapped from the file.

    Attributes:
        path: of the file.
        samples: which samples it holds.
        tensors: name -> tensor, as :attr:`StorePlan.tensors` names them.
        crc32: of the data, when it was written, in hexadecimal; None in a shard that
            carries no checksum.
    """

    path: Path
    samples: range
    tensors: dict[str, Tensor]
    crc32: str | None


def shard_name(number: int) -> str:
    """The file name of a shard."""
    return f"shard-{number:05d}.safetensors"


def shard_views(plan: StorePlan, number: int, buffer: Tensor) -> dict[str, Tensor]:
    """A shard's tensors as views of one buffer, in the order of the file.

    Args:
        plan: of the store.
        number: of the shard.
        buffer: ``(bytes,)`` uint8, at least as long as the data of the shard.
    """
    rows, end, views = plan.shard_rows(number), 0, {}
    for name, (shape, dtype) in plan.tensors.items():
        start, end = end, end + rows * math.prod(shape) * dtype.itemsize
        views[name] = buffer[start:end].view(dtype).view(rows, *shape)
    return views


def shard_header(plan: StorePlan, number: int, crc32: int) -> bytes:
    """The header of a shard's file, the same in every run."""
    # The library's save_file would leave nameless files behind when it is killed, and
    # writes the keys of its metadata in random order.
    rows, end = plan.shard_rows(number), 0
    samples = plan.shard_samples(number)
    about = {
        "manifest": plan.digest,
        "samples": [samples.start, samples.stop],
        "crc32": f"{crc32:08x}",
    }
    header: dict[str, Any] = {"__metadata__": {METADATA: json.dumps(about)}}
    for name, (shape, dtype) in plan.tensors.items():
        start, end = end, end + rows * math.prod(shape) * dtype.itemsize
        header[name] = {
            "dtype": SAFETENSORS_DTYPES[dtype],
            "shape": [rows, *shape],
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def shard_size(plan: StorePlan, number: int) -> int:
    """Bytes of a shard's file."""
    header = shard_header(plan, number, 0)
    return len(header) + plan.shard_rows(number) * plan.row_bytes


def check_size(plan: StorePlan, number: int, size: int, location: str) -> None:
    """Check that the file of a shard has the planned size.

    Raises:
        DamagedFileError: names the shard and both sizes.
    """
    expected = shard_size(plan, number)
    if size != expected:
        raise DamagedFileError(
            f"{shard_name(number)} in {location} is damaged: it has {size:,} bytes of "
            f"{expected:,}; {REMEDY}"
        )


def open_shard(path: Path, plan: StorePlan, number: int) -> Shard:
    """Map a shard's file into memory, without reading its data.

    Raises:
        DamagedFileError: it is truncated, no safetensors file, or not the shard
            ``number`` of this store.
    """
    try:
        with safe_open(regular_file(path), framework="pt") as file:
            about = parse_json((file.metadata() or {})[METADATA])
            tensors = {name: file.get_tensor(name) for name in plan.tensors}
        # A name that a flipped bit has changed is no name that was left out.
        checksum = None if about.keys() == WITHOUT_CHECKSUM else about["crc32"]
        if checksum is not None and not CHECKSUM.fullmatch(checksum):
            raise ValueError("its checksum is no checksum")
    except Exception as error:  # a damaged file fails wherever the reader is
        reason = reason_of(error).removeprefix(f"{path}: ")
        raise DamagedFileError(
            f"{path} is no whole shard ({reason}); {REMEDY}"
        ) from None
    samples, rows = plan.shard_samples(number), plan.shard_rows(number)
    if (
        about.get("manifest") != plan.digest
        or about.get("samples") != [samples.start, samples.stop]
        or any(
            (tensors[name].shape, tensors[name].dtype) != ((rows, *shape), dtype)
            for name, (shape, dtype) in plan.tensors.items()
        )
    ):
        raise DamagedFileError(
            f"{path} is not shard {number} of this store, despite its name; " + REMEDY
        )
    return Shard(path, samples, tensors, checksum)


def memory_of(tensor: Tensor) -> memoryview:
    """The bytes of a contiguous tensor, not copied."""
    return tensor.view(-1).view(torch.uint8).numpy().data
