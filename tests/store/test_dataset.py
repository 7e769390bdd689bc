"""Samples come whole, in an order of seed and epoch that reads few shards at a time."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from store_cases import assert_equal, make_plan, make_rows, write
from torch.utils.data import DataLoader

from gradnet.errors import GradnetError
from gradnet.store.dataset import ShardBatches, StoreDataset, shard_order
from gradnet.store.reader import GradientStore


def test_samples_are_items(store: GradientStore) -> None:
    data = StoreDataset(store, ["conv"])
    assert len(data) == 23
    expected = make_rows(make_plan(), 9, 10)
    del expected["block/"]
    assert_equal(data[9], expected)
    for sample in (-1, 23):
        with pytest.raises(IndexError):
            data[sample]


def test_loader_gives_every_sample_once(store: GradientStore) -> None:
    batches = ShardBatches(store, batch_size=5, window=2)
    loader = DataLoader(StoreDataset(store), batch_sampler=batches)
    everything = make_rows(make_plan(), 0, 23)
    seen = []
    for batch in loader:
        samples = batch["index"][:, 0] - 1000
        rows = (2 * samples[:, None] + torch.arange(2)).flatten()
        joined = {name: values.flatten(0, 1) for name, values in batch.items()}
        assert_equal(joined, {name: v[rows] for name, v in everything.items()})
        seen += samples.tolist()
    assert sorted(seen) == list(range(23))
    assert len(loader) == 5


@given(
    size=st.integers(1, 30),
    window=st.integers(1, 8),
    seed=st.integers(),
    epoch=st.integers(),
)
def test_batches_keep_to_a_window_of_shards(
    store_folder: Path, size: int, window: int, seed: int, epoch: int
) -> None:
    batches = ShardBatches(GradientStore(str(store_folder)), size, seed, window)
    batches.set_epoch(epoch)
    found = list(batches)
    assert found == list(batches)
    assert len(found) == len(batches)
    assert {len(batch) for batch in found[:-1]} <= {size}
    order = [sample for batch in found for sample in batch]
    assert sorted(order) == list(range(23))
    # Once the samples of the last window are read, none of its shards comes back.
    turns: dict[int, list[int]] = {}
    for place, sample in enumerate(order):
        turns.setdefault(sample // 4, []).append(place)
    spans = sorted((places[0], places[-1]) for places in turns.values())
    ends = [max(span[1] for span in spans[: n + window]) for n in range(0, 6, window)]
    starts = [spans[n][0] for n in range(window, 6, window)]
    assert all(end < start for end, start in zip(ends, starts, strict=False))


def test_order_is_of_seed_and_epoch(store: GradientStore) -> None:
    batches = ShardBatches(store, 23, seed=3)
    other = ShardBatches(store, 23, seed=4)
    orders = [list(batches)[0], list(other)[0]]
    batches.set_epoch(1)
    orders.append(list(batches)[0])
    assert len(set(map(tuple, orders))) == 3
    assert all(any(b < a for a, b in pairwise(order[:8])) for order in orders)


def test_order_of_some_samples(store: GradientStore) -> None:
    samples = torch.tensor([22, 1, 7, 13])
    order = shard_order(store.plan, samples, 2, "any", 1)
    assert sorted(order.tolist()) == [1, 7, 13, 22]
    assert torch.equal(order, shard_order(store.plan, samples, 2, "any", 1))


def test_samples_of_missing_shards_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, shards=(1, 3))
    batches = list(ShardBatches(GradientStore(str(tmp_path), partial=True), 3))
    assert sorted(s for b in batches for s in b) == [4, 5, 6, 7, 16, 17, 18, 19]


@pytest.mark.parametrize("name", ["batch_size", "window"])
def test_impossible_batches_are_told(store: GradientStore, name: str) -> None:
    with pytest.raises(GradnetError, match=f"{name} is 0"):
        ShardBatches(store, **{"batch_size": 1, name: 0})
