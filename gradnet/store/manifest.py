"""StorePlan: what a gradient store holds, its division into shards, and its origin.

A store is a folder with ``manifest.json`` and shards of safetensors. Rows are
sample-major: ``C`` rows a sample, each the gradient at one candidate label. Letters as
in :mod:`gradnet.gradients.layout`.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from gradnet.core.settings import first_difference
from gradnet.errors import DamagedFileError, InvalidInputError

MANIFEST = "manifest.json"
VERSION = 1
MAX_SHARD_BYTES = 512_000_000
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (torch.float32, torch.bfloat16, torch.float16)
}


@dataclass(frozen=True)
class StorePlan:
    """The contents of a store, as its manifest describes them.

    Attributes:
        num_samples: of all shards together.
        labels_per_sample: ``C``, rows a sample.
        num_logits: ``K``.
        blocks: block name -> ``D``, after any reduction.
        dtype: of the gradients: float32, bfloat16 or float16.
        fingerprint: the values that determine the gradients, as JSON; a store with
            another one is not continued.
        shard_bytes: approximate size of a shard, which holds at least one sample.

    Raises:
        InvalidInputError: a number is out of its range, or the fingerprint is not JSON.

    Example:
        >>> plan = StorePlan(
        ...     1000, labels_per_sample=10, num_logits=10, blocks={"fc": 640}
        ... )
        >>> plan.num_rows, plan.num_shards
        (10000, 1)
        >>> plan.describe().partition(";")[0]
        '1,000 samples x 10 labels x 640 coordinates x 4 bytes = 25.6 MB'
    """

    num_samples: int
    labels_per_sample: int
    num_logits: int
    blocks: Mapping[str, int]
    dtype: torch.dtype = torch.float32
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    shard_bytes: int = 256_000_000

    def __post_init__(self) -> None:
        sizes = {f"block {name}": size for name, size in self.blocks.items()}
        counts = ("num_samples", "labels_per_sample", "num_logits")
        for name, count in ({n: getattr(self, n) for n in counts} | sizes).items():
            if count < 1:
                raise InvalidInputError(f"{name} is {count}; a store needs at least 1")
        if not self.blocks:
            raise InvalidInputError("a store needs at least one block")
        if self.dtype not in DTYPES.values():
            raise InvalidInputError(
                f"a store cannot hold {self.dtype}; choose {', '.join(DTYPES)}"
            )
        if not 1 <= self.shard_bytes <= MAX_SHARD_BYTES:
            raise InvalidInputError(
                f"shard_bytes is {self.shard_bytes}; choose 1 to {MAX_SHARD_BYTES}"
            )
        try:
            json.dumps(self.fingerprint, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InvalidInputError(
                f"the fingerprint is not plain JSON: {error}"
            ) from None

    @cached_property
    def tensors(self) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        """Name -> shape and dtype of one row, in the order of the file."""
        # The widest types come first, so that every tensor is aligned.
        return {
            "index": ((), torch.int64),
            "label": ((), torch.int64),
            "target": ((), torch.int64),
            "logits": ((self.num_logits,), torch.float32),
        } | {
            f"block/{name}": ((size,), self.dtype) for name, size in self.blocks.items()
        }

    @property
    def row_bytes(self) -> int:
        """Bytes of one row, with its labels and logits."""
        return sum(
            math.prod(shape) * dtype.itemsize for shape, dtype in self.tensors.values()
        )

    @property
    def num_rows(self) -> int:
        """Gradients in the whole store."""
        return self.num_samples * self.labels_per_sample

    @property
    def total_bytes(self) -> int:
        """Bytes of all rows; the headers add a few kilobytes a shard."""
        return self.num_rows * self.row_bytes

    @property
    def samples_per_shard(self) -> int:
        """Samples of every shard but the last, which may have fewer."""
        fitting = self.shard_bytes // (self.labels_per_sample * self.row_bytes)
        return min(max(fitting, 1), self.num_samples)

    @property
    def num_shards(self) -> int:
        """How many shards the complete store has."""
        return math.ceil(self.num_samples / self.samples_per_shard)

    def shard_samples(self, number: int) -> range:
        """The samples of a shard."""
        start = number * self.samples_per_shard
        return range(start, min(start + self.samples_per_shard, self.num_samples))

    def shard_rows(self, number: int) -> int:
        """The number of rows of a shard."""
        return len(self.shard_samples(number)) * self.labels_per_sample

    def describe(self) -> str:
        """Samples x labels x coordinates x bytes, and their product, in one line."""
        coordinates = sum(self.blocks.values())
        gradients = self.num_rows * coordinates * self.dtype.itemsize
        return (
            f"{self.num_samples:,} samples x {self.labels_per_sample} labels x "
            f"{coordinates:,} coordinates x {self.dtype.itemsize} bytes = "
            f"{readable_bytes(gradients)}; with labels and logits "
            f"{readable_bytes(self.total_bytes)} in {self.num_shards:,} shards"
        )

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """The plan as JSON values."""
        values = {
            "version": VERSION,
            "num_samples": self.num_samples,
            "labels_per_sample": self.labels_per_sample,
            "num_logits": self.num_logits,
            "blocks": dict(self.blocks),
            "dtype": str(self.dtype).removeprefix("torch."),
            "shard_bytes": self.shard_bytes,
            "fingerprint": dict(self.fingerprint),
        }
        # Through JSON and back, so that tuples and integer keys look as they will
        # when they are read.
        return json.loads(json.dumps(values))

    @cached_property
    def digest(self) -> str:
        """A hash of the manifest's values, by which a shard identifies its store."""
        canonical = json.dumps(self.manifest, sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()

    @classmethod
    def from_manifest(cls, manifest: bytes, location: str) -> "StorePlan":
        """The plan that a manifest describes.

        Args:
            manifest: the bytes of the file.
            location: of the store, for the error message.

        Raises:
            DamagedFileError: it cannot be parsed, or has another format version.
        """
        try:
            values = json.loads(manifest)
            version = values.pop("version")
            if version == VERSION:
                return cls(**values | {"dtype": DTYPES[values["dtype"]]})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamagedFileError(
                f"{location} has no readable {MANIFEST} of a gradient store: {error!r}"
            ) from None
        raise DamagedFileError(
            f"{location} is a store of version {version}; this gradnet reads {VERSION}"
        )

    def check_compatible(self, stored: "StorePlan", location: str) -> None:
        """Raise where the store at ``location`` was made with another plan.

        Raises:
            InvalidInputError: names the first field that differs, and both values.
        """
        if stored.digest == self.digest:
            return
        difference = first_difference(stored.manifest, self.manifest)
        raise InvalidInputError(
            f"{location} was made with other settings: "
            f"{difference or 'a value has another type'}; choose another folder, or "
            "the settings of the store"
        )


def readable_bytes(count: float) -> str:
    """A number of bytes in three digits and a unit of thousands."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 999.5:  # three digits would make 1e+03 of more
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.0f} TB"
