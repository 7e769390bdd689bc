"""GradientStore: reads rows and blocks of gradients that are stored on disk."""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from gradnet.errors import DamagedFileError, InvalidInputError
from gradnet.store.filesystem import open_location
from gradnet.store.manifest import MANIFEST, StorePlan
from gradnet.store.shard import Shard, check_size, open_shard, shard_name

OPEN_SHARDS = 16


class GradientStore:
    """Gradients of all samples of a data set, each at ``C`` candidate labels.

    Rows are sample-major: row ``s C + c`` belongs to the sample at position s of the
    store. Shards are mapped into memory, so that only the requested parts are read. A
    shard behind a URL is downloaded to a temporary folder when it is first needed.

    Args:
        location: a folder, or a URL that fsspec knows.
        partial: open it even if shards are missing; reading those raises.

    Raises:
        DamagedFileError: there is no store, shards are missing, or one is truncated.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from gradnet.store import StorePlan, write_store
        >>> plan = StorePlan(2, labels_per_sample=1, num_logits=3, blocks={"fc": 4})
        >>> def make_rows(start, stop):
        ...     index = torch.arange(start, stop)
        ...     yield {
        ...         "block/fc": torch.ones(len(index), 4),
        ...         "index": index,
        ...         "label": index,
        ...         "target": index,
        ...         "logits": torch.zeros(len(index), 3),
        ...     }
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_store(folder, plan, make_rows)
        ...     store = GradientStore(folder)
        ...     row = store.read(1, 2)
        >>> store.num_samples, store.blocks
        (2, {'fc': 4})
        >>> row["index"], row["block/fc"]
        (tensor([1]), tensor([[1., 1., 1., 1.]]))
    """

    def __init__(self, location: str, partial: bool = False) -> None:
        self.location = location
        self._partial = partial
        self._files = open_location(location)
        sizes = self._files.sizes()
        if MANIFEST not in sizes:
            raise DamagedFileError(
                f"{location} is no gradient store: it has no {MANIFEST}"
            )
        self.plan = StorePlan.from_manifest(self._files.read(MANIFEST), location)
        missing = []
        for number in range(self.plan.num_shards):
            if shard_name(number) in sizes:
                check_size(self.plan, number, sizes[shard_name(number)], location)
            else:
                missing.append(number)
        self.missing = tuple(missing)
        if missing and not partial:
            raise DamagedFileError(
                f"{location} is not finished, {len(missing)} of {self.plan.num_shards} "
                f"shards are missing: {_listed(missing)}; run again what wrote it, or "
                "open what there is with partial=True"
            )
        self._open = lru_cache(OPEN_SHARDS)(self._open_shard)

    def __reduce__(self) -> tuple[Any, ...]:
        # Worker processes of a DataLoader open the files themselves.
        return GradientStore, (self.location, self._partial)

    @property
    def blocks(self) -> Mapping[str, int]:
        """Block name -> ``D``."""
        return self.plan.blocks

    @property
    def num_rows(self) -> int:
        """The number of gradients, including those of missing shards."""
        return self.plan.num_rows

    @property
    def num_samples(self) -> int:
        """The number of samples, including those of missing shards."""
        return self.plan.num_samples

    @property
    def labels_per_sample(self) -> int:
        """``C``."""
        return self.plan.labels_per_sample

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """The values that determine the gradients."""
        return self.plan.fingerprint

    def read(
        self,
        start: int = 0,
        stop: int | None = None,
        blocks: Sequence[str] | None = None,
    ) -> dict[str, Tensor]:
        """Rows ``start`` to ``stop``, copied; checksums are not compared.

        Args:
            start: the first row.
            stop: the row after the last; None reads to the end.
            blocks: names of the blocks to read; None reads all, ``()`` none.

        Returns:
            ``block/<name>`` ``(rows, D)`` each; ``index``, ``label`` and ``target``
            ``(rows,)``; ``logits`` ``(rows, K)``.

        Raises:
            InvalidInputError: there are no such rows or blocks.
            DamagedFileError: their shard is missing or damaged.
        """
        stop = self.num_rows if stop is None else stop
        if not 0 <= start <= stop <= self.num_rows:
            raise InvalidInputError(
                f"rows {start} to {stop} were asked for; {self.location} has "
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
            What :meth:`read` returns, but ``(n, C, ...)`` each.

        Raises:
            InvalidInputError: there are no such samples or blocks.
            DamagedFileError: their shard is missing or damaged.
        """
        wanted = torch.as_tensor(samples, dtype=torch.long)
        if wanted.numel() and not 0 <= wanted.min() <= wanted.max() < self.num_samples:
            raise InvalidInputError(
                f"samples {int(wanted.min())} to {int(wanted.max())} were asked for; "
                f"{self.location} has {self.num_samples}"
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
        """All stored rows in order, a shard at a time.

        The tensors are mapped copy-on-write: changing them in place changes neither the
        file nor what other readers see.

        Args:
            blocks: as for :meth:`read`.
            verify: compare each shard with its checksum, which reads all of it.

        Yields:
            What :meth:`read` returns.

        Raises:
            DamagedFileError: a shard is damaged.
        """
        names = self._tensor_names(blocks)
        for number in self.present:
            shard = self._open_shard(number)
            if verify:
                shard.verify()
            yield {name: shard.tensors[name] for name in names}

    @property
    def present(self) -> list[int]:
        """Numbers of the shards that are present."""
        missing = set(self.missing)
        return [n for n in range(self.plan.num_shards) if n not in missing]

    def verify(self) -> None:
        """Read everything and compare it with the checksums.

        Raises:
            DamagedFileError: names the first shard that is damaged.
        """
        for number in self.present:
            self._open_shard(number).verify()

    def _open_shard(self, number: int) -> Shard:
        if number in self.missing:
            raise DamagedFileError(
                f"{shard_name(number)} is missing in {self.location}; run again what "
                "wrote it"
            )
        path = self._files.local_path(shard_name(number))
        return open_shard(path, self.plan, number)

    def _tensor_names(self, blocks: Sequence[str] | None) -> list[str]:
        chosen = self.blocks if blocks is None else blocks
        for name in chosen:
            if name not in self.blocks:
                raise InvalidInputError(
                    f"{self.location} has no block {name!r}; it has: "
                    + ", ".join(self.blocks)
                )
        wanted = {f"block/{name}" for name in chosen}
        return [
            name
            for name in self.plan.tensors
            if name in wanted or not name.startswith("block/")
        ]


def _listed(numbers: Sequence[int], max_listed: int = 5) -> str:
    names = [shard_name(number) for number in numbers[:max_listed]]
    more = f" and {len(numbers) - max_listed} more" if len(numbers) > max_listed else ""
    return ", ".join(names) + more
