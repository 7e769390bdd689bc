"""A small store of made-up rows, and a process that writes it slowly."""

import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gradnet.store.manifest import StorePlan
from gradnet.store.writer import write_store

SAMPLES_PER_SHARD = 4


def make_plan(**changes: Any) -> StorePlan:
    """23 samples in six shards, the last of which has three."""
    fields: dict[str, Any] = {
        "num_samples": 23,
        "labels_per_sample": 2,
        "num_logits": 3,
        "blocks": {"conv": 5, "": 3},
        "dtype": torch.float32,
        "fingerprint": {"weights": "abc", "data": {"name": "made up", "order": [0, 1]}},
    } | changes
    if "shard_bytes" not in changes:
        row = StorePlan(**fields).row_bytes
        sample = fields["labels_per_sample"] * row
        fields["shard_bytes"] = SAMPLES_PER_SHARD * sample + 1
    return StorePlan(**fields)


def make_rows(plan: StorePlan, start: int, stop: int) -> dict[str, Tensor]:
    """The rows of some samples; each number tells its row and its column."""
    samples = torch.arange(start, stop)
    index = samples.repeat_interleave(plan.labels_per_sample)
    label = torch.arange(plan.labels_per_sample).repeat(len(samples))
    row = (index * plan.labels_per_sample + label)[:, None]
    return {
        "index": index + 1000,
        "label": label,
        "target": index % plan.num_logits,
        "logits": row + torch.arange(plan.num_logits) / 8,
    } | {
        f"block/{name}": (row + 100 * place + torch.arange(size) / 8).to(plan.dtype)
        for place, (name, size) in enumerate(plan.blocks.items())
    }


def in_chunks(
    plan: StorePlan, start: int, stop: int, step: int = 3
) -> Iterator[dict[str, Tensor]]:
    """The same, a few samples at a time."""
    for first in range(start, stop, step):
        yield make_rows(plan, first, min(first + step, stop))


def write(place: object, plan: StorePlan | None = None, **options: Any) -> StorePlan:
    """Write the store of a plan."""
    plan = plan or make_plan()
    write_store(str(place), plan, lambda *part: in_chunks(plan, *part), **options)
    return plan


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of every file."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def write_slowly(place: str, shards: tuple[int, int], ready: Connection) -> None:
    """Say that it begins, and write, with time to be killed in."""
    plan = make_plan()

    def rows(start: int, stop: int) -> Iterator[dict[str, Tensor]]:
        for chunk in in_chunks(plan, start, stop, 1):
            time.sleep(0.0005)
            yield chunk

    torch.set_num_threads(1)
    ready.send(None)
    write_store(place, plan, rows, shards=shards)


def assert_equal(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert set(actual) == set(expected)
    for name, tensor in expected.items():
        assert actual[name].dtype == tensor.dtype
        assert torch.equal(actual[name], tensor), name
