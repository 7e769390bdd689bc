"""GradientStore: gradients on disk, of which rows and blocks are read alone."""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from gradnet.errors import GradnetError
from gradnet.store.filesystem import open_place
from gradnet.store.manifest import MANIFEST, StorePlan
from gradnet.store.shard import Shard, check_size, open_shard, shard_name

OPEN_SHARDS = 16


class GradientStore:
    """Gradients of all samples of a data set, each at ``C`` candidate labels.

    Rows are sample-major: row ``s C + c`` belongs to the sample at position s of the
    store. Shards are mapped into memory, so that only what is asked for is read; those
    behind a URL are first copied to a temporary folder, each when it is first needed.

    Args:
        place: a folder, or a URL that fsspec knows.
        partial: open it though shards are missing; to read those is an error.

    Raises:
        GradnetError: there is no store, shards are missing, or one is truncated.
    """

    def __init__(self, place: str, partial: bool = False) -> None:
        self.place = place
        self._partial = partial
        self._files = open_place(place)
        sizes = self._files.sizes()
        if MANIFEST not in sizes:
            raise GradnetError(f"{place} is no gradient store: it has no {MANIFEST}")
        self.plan = StorePlan.from_manifest(self._files.read(MANIFEST), place)
        missing = []
        for number in range(self.plan.num_shards):
            if shard_name(number) in sizes:
                check_size(self.plan, number, sizes[shard_name(number)], place)
            else:
                missing.append(number)
        self.missing = tuple(missing)
        if missing and not partial:
            raise GradnetError(
                f"{place} is not finished, {len(missing)} of {self.plan.num_shards} "
                f"shards are missing: {_listed(missing)}; run again what wrote it, or "
                "open what there is with partial=True"
            )
        self._open = lru_cache(OPEN_SHARDS)(self._open_anew)

    def __reduce__(self) -> tuple[Any, ...]:
        # Processes that load data open the files themselves.
        return GradientStore, (self.place, self._partial)

    @property
    def blocks(self) -> Mapping[str, int]:
        """Block name -> ``D``."""
        return self.plan.blocks

    @property
    def num_rows(self) -> int:
        """Gradients, missing ones included."""
        return self.plan.num_rows

    @property
    def num_samples(self) -> int:
        """Samples, missing ones included."""
        return self.plan.num_samples

    @property
    def labels_per_sample(self) -> int:
        """``C``."""
        return self.plan.labels_per_sample

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """All that made the gradients."""
        return self.plan.fingerprint

    def read(
        self,
        start: int = 0,
        stop: int | None = None,
        blocks: Sequence[str] | None = None,
    ) -> dict[str, Tensor]:
        """Rows ``start`` to ``stop``, copied to memory of their own; no checksums.

        Args:
            start: the first row.
            stop: the row after the last; None reads to the end.
            blocks: names of the blocks to read; None reads all, ``()`` none.

        Returns:
            ``block/<name>`` ``(rows, D)`` each; ``index``, ``label`` and ``target``
            ``(rows,)``; ``logits`` ``(rows, K)``.

        Raises:
            GradnetError: there are no such rows or blocks, or their shard is missing
                or damaged.
        """
        stop = self.num_rows if stop is None else stop
        if not 0 <= start <= stop <= self.num_rows:
            raise GradnetError(
                f"rows {start} to {stop} were asked for; {self.place} has "
                f"{self.num_rows}"
            )
        names = self._tensor_names(blocks)
        rows = self.plan.samples_per_shard * self.labels_per_sample
        # An empty range is read from one shard too, for its shapes and dtypes.
        first = min(start // rows, self.plan.num_shards - 1)
        last = max(first + 1, -(-stop // rows))
        parts: dict[str, list[Tensor]] = {name: [] for name in names}
        for number in range(first, last):
            tensors = self._open(number).tensors
            here = slice(max(start - number * rows, 0), max(stop - number * rows, 0))
            for name in names:
                parts[name].append(tensors[name][here])
        return {name: torch.cat(found) for name, found in parts.items()}

    def gather(
        self, samples: Sequence[int], blocks: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """The rows of some samples, in the order given.

        Args:
            samples: positions in the store, any number of times.
            blocks: as for :meth:`read`.

        Returns:
            What :meth:`read` gives, but ``(n, C, ...)`` each.

        Raises:
            GradnetError: there are no such samples or blocks, or their shard is missing
                or damaged.
        """
        wanted = torch.as_tensor(samples, dtype=torch.long)
        if wanted.numel() and not 0 <= wanted.min() <= wanted.max() < self.num_samples:
            raise GradnetError(
                f"samples {int(wanted.min())} to {int(wanted.max())} were asked for; "
                f"{self.place} has {self.num_samples}"
            )
        names = self._tensor_names(blocks)
        shard = wanted // self.plan.samples_per_shard
        found = {
            name: torch.empty(len(wanted), self.labels_per_sample, *shape, dtype=dtype)
            for name, (shape, dtype) in self.plan.tensors.items()
            if name in names
        }
        for number in shard.unique().tolist():
            here = (shard == number).nonzero()[:, 0]
            inside = wanted[here] - number * self.plan.samples_per_shard
            for name, tensor in found.items():
                rows = self._open(number).tensors[name]
                tensor[here] = rows.unflatten(0, (-1, self.labels_per_sample))[inside]
        return found

    def shards(
        self, blocks: Sequence[str] | None = None, verify: bool = True
    ) -> Iterator[dict[str, Tensor]]:
        """All rows that there are, in order, a shard at a time.

        The tensors are mapped from the file: what is done to them in place is neither
        written nor seen by other readers.

        Args:
            blocks: as for :meth:`read`.
            verify: compare each shard with its checksum, for which all of it is read.

        Yields:
            What :meth:`read` returns.

        Raises:
            GradnetError: a shard is damaged.
        """
        names = self._tensor_names(blocks)
        for number in self.present:
            shard = self._open_anew(number)
            if verify:
                shard.verify()
            yield {name: shard.tensors[name] for name in names}

    @property
    def present(self) -> list[int]:
        """Numbers of the shards that are there."""
        missing = set(self.missing)
        return [n for n in range(self.plan.num_shards) if n not in missing]

    def verify(self) -> None:
        """Read everything and compare it with the checksums.

        Raises:
            GradnetError: names the first shard that is damaged.
        """
        for number in self.present:
            self._open_anew(number).verify()

    def _open_anew(self, number: int) -> Shard:
        if number in self.missing:
            raise GradnetError(
                f"{shard_name(number)} is missing in {self.place}; run again what "
                "wrote it"
            )
        path = self._files.local_path(shard_name(number))
        return open_shard(path, self.plan, number)

    def _tensor_names(self, blocks: Sequence[str] | None) -> list[str]:
        chosen = self.blocks if blocks is None else blocks
        for name in chosen:
            if name not in self.blocks:
                raise GradnetError(
                    f"{self.place} has no block {name!r}; it has: "
                    + ", ".join(self.blocks)
                )
        wanted = {f"block/{name}" for name in chosen}
        return [
            name
            for name in self.plan.tensors
            if name in wanted or not name.startswith("block/")
        ]


def _listed(numbers: Sequence[int], most: int = 5) -> str:
    names = [shard_name(number) for number in numbers[:most]]
    more = f" and {len(numbers) - most} more" if len(numbers) > most else ""
    return ", ".join(names) + more
