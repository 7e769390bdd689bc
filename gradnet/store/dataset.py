"""Reads the samples of a store for training, from few shards at a time."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from gradnet.core.reproducibility import make_generator
from gradnet.errors import InvalidInputError
from gradnet.store.manifest import StorePlan
from gradnet.store.reader import GradientStore


class StoreDataset(Dataset[dict[str, Tensor]]):
    """The samples of a store, for a ``DataLoader``.

    Item s is what :meth:`GradientStore.read` returns for its ``C`` rows. For shuffled
    reading use :class:`ShardBatches`, because random access to a disk is slow::

        batches = ShardBatches(store, batch_size=64, seed=0)
        loader = DataLoader(StoreDataset(store), batch_sampler=batches)

    Args:
        store: the store to read.
        blocks: names of the blocks to read; None reads all.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from gradnet.store import GradientStore, StorePlan, write_store
        >>> plan = StorePlan(2, labels_per_sample=1, num_logits=3, blocks={"fc": 4})
        >>> rows = {
        ...     "block/fc": torch.eye(2, 4),
        ...     "index": torch.arange(2),
        ...     "label": torch.tensor([2, 0]),
        ...     "target": torch.tensor([2, 1]),
        ...     "logits": torch.zeros(2, 3),
        ... }
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_store(folder, plan, lambda start, stop: [rows])
        ...     samples = StoreDataset(GradientStore(folder), blocks=["fc"])
        ...     len(samples), samples[1]["block/fc"], samples[1]["target"]
        (2, tensor([[0., 1., 0., 0.]]), tensor([1]))
    """

    def __init__(
        self, store: GradientStore, blocks: Sequence[str] | None = None
    ) -> None:
        self.store, self.blocks = store, blocks

    def __len__(self) -> int:
        return self.store.num_samples

    def __getitem__(self, sample: int) -> dict[str, Tensor]:
        if not 0 <= sample < len(self):
            raise IndexError(f"no sample {sample} of {len(self)}")
        labels = self.store.labels_per_sample
        return self.store.read(sample * labels, (sample + 1) * labels, self.blocks)


class ShardBatches(Sampler[list[int]]):
    """Batches of shuffled samples that are read from few shards at a time.

    Shards are taken in random order, ``window`` of them at a time, and their samples
    are shuffled together. The order depends on seed and epoch alone.

    Args:
        store: the store to read; samples of missing shards are left out.
        batch_size: samples of a batch; the last may have fewer.
        seed: of the order.
        window: the number of shards that are read at the same time.

    Raises:
        InvalidInputError: ``batch_size`` or ``window`` is below 1.

    Example:
        >>> import tempfile
        >>> from gradnet.store import GradientStore, StorePlan, write_store
        >>> plan = StorePlan(5, labels_per_sample=1, num_logits=3, blocks={"fc": 4})
        >>> index = torch.arange(5)
        >>> rows = {"block/fc": torch.ones(5, 4), "logits": torch.zeros(5, 3)}
        >>> rows |= {"index": index, "label": index % 3, "target": index % 3}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_store(folder, plan, lambda start, stop: [rows])
        ...     batches = list(ShardBatches(GradientStore(folder), batch_size=2))
        >>> [len(batch) for batch in batches], sorted(sum(batches, []))
        ([2, 2, 1], [0, 1, 2, 3, 4])
    """

    def __init__(
        self, store: GradientStore, batch_size: int, seed: int = 0, window: int = 4
    ) -> None:
        for name, value in (("batch_size", batch_size), ("window", window)):
            if value < 1:
                raise InvalidInputError(f"{name} is {value}; it must be at least 1")
        self.plan = store.plan
        present = [torch.tensor(self.plan.shard_samples(n)) for n in store.present]
        self.samples = torch.cat(present) if present else torch.empty(0).long()
        self.batch_size, self.seed, self.window = batch_size, seed, window
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.samples) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        keys = self.seed, self.epoch
        order = shard_order(self.plan, self.samples, self.window, *keys)
        # An empty tensor would be split into one empty batch.
        for batch in order.split(self.batch_size) if len(order) else ():
            yield batch.tolist()


def shard_order(plan: StorePlan, samples: Tensor, window: int, *keys: object) -> Tensor:
    """A random order of samples that reads few shards at a time.

    Args:
        plan: of the store.
        samples: positions of the samples to order, ``(n,)``.
        window: the number of shards whose samples are shuffled together.
        keys: the values that the order depends on, such as seed and epoch.

    Returns:
        ``(n,)``, the same samples.
    """
    generator = make_generator("order of shards", *keys)
    turn = torch.randperm(plan.num_shards, generator=generator)
    mixed = samples[torch.randperm(len(samples), generator=generator)]
    window_of = turn[mixed // plan.samples_per_shard] // window
    return mixed[window_of.argsort(stable=True)]
