"""Speed of writing and reading a store, beside a plain copy of the same bytes.

    python benchmarks/store.py --megabytes 1000

Rows are made beforehand. The store is written (each shard flushed to the disk) and read
in sequence with its checksums; the plain copy writes and flushes the same bytes, and
reads the same files into one buffer. All take turns; the medians are printed, and
written as JSON under ``benchmarks/results/``. Cold reads come after the kernel was
asked to forget the files, cached ones directly after.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from gradnet.core.files import write_json
from gradnet.core.reproducibility import hardware, versions
from gradnet.store.manifest import StorePlan
from gradnet.store.reader import GradientStore
from gradnet.store.writer import write_store

LABELS, CHUNK = 10, 32
BLOCKS = {"conv0": 450, "conv1": 4_050, "linear": 8_000}
READ_BYTES = 8 << 20
TARGETS = {"write": 300, "read, cold": 800, "read, cached": 800}


def make_plan(num_bytes: int, dtype: torch.dtype) -> StorePlan:
    """A store of about so many bytes."""
    one = StorePlan(1, LABELS, LABELS, BLOCKS, dtype)
    return StorePlan(num_bytes // one.total_bytes, LABELS, LABELS, BLOCKS, dtype)


def write_rows(folder: Path, plan: StorePlan) -> float:
    """Seconds that a store of ready rows takes."""
    count = CHUNK * LABELS
    generator = torch.Generator().manual_seed(0)
    rows = {
        name: (
            torch.randn(count, *shape, generator=generator).to(dtype)
            if dtype.is_floating_point
            else torch.arange(count) % LABELS
        )
        for name, (shape, dtype) in plan.tensors.items()
    }

    def make_rows(start: int, stop: int) -> Iterator[dict[str, Tensor]]:
        for first in range(start, stop, CHUNK):
            size = min(CHUNK, stop - first) * LABELS
            yield {name: values[:size] for name, values in rows.items()}

    start = time.perf_counter()
    write_store(str(folder), plan, make_rows)
    return time.perf_counter() - start


def write_plainly(store: Path, folder: Path) -> float:
    """Seconds that as many files of as many bytes take."""
    shards = sorted(store.glob("shard-*"))
    data = shards[0].read_bytes()
    folder.mkdir()
    start = time.perf_counter()
    for shard in shards:
        with (folder / shard.name).open("wb", buffering=0) as file:
            file.write(memoryview(data)[: shard.stat().st_size])
            os.fsync(file.fileno())
    return time.perf_counter() - start


def read_rows(store: Path) -> None:
    """Read all rows in sequence, with their checksums."""
    for _ in GradientStore(str(store)).shards():
        pass


def read_plainly(store: Path) -> None:
    """Read the same files into one buffer."""
    buffer = bytearray(READ_BYTES)
    for path in sorted(store.glob("shard-*")):
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def forget(store: Path) -> None:
    """Ask the kernel to drop what it keeps of the files in memory."""
    for path in store.iterdir():
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def seconds_of(function: Callable[[Path], None], store: Path) -> float:
    """How long it takes."""
    start = time.perf_counter()
    function(store)
    return time.perf_counter() - start


def one_round(folder: Path, plan: StorePlan) -> dict[str, tuple[float, float]]:
    """Seconds of the store and of the plain copy, for each thing that is measured."""
    store, copy = folder / "store", folder / "copy"
    seconds = {"write": (write_rows(store, plan), write_plainly(store, copy))}
    shutil.rmtree(copy)
    both = read_rows, read_plainly
    cold = []
    for function in both:
        forget(store)
        cold.append(seconds_of(function, store))
    seconds["read, cold"] = cold[0], cold[1]
    read_plainly(store)
    cached = [seconds_of(function, store) for function in both]
    seconds["read, cached"] = cached[0], cached[1]
    shutil.rmtree(store)
    return seconds


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--folder", help="on the disk to measure; default: temporary")
    parser.add_argument("--out", default="benchmarks/results/store.json")
    arguments = parser.parse_args()
    plan = make_plan(arguments.megabytes * 10**6, getattr(torch, arguments.dtype))
    print(plan.describe())
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        rounds = [one_round(Path(name), plan) for _ in range(arguments.rounds)]
    rows = {}
    print(f"{'':14}{'store':>10}{'plain':>10}{'ratio':>8}   MB/s, and the target")
    for title, target in TARGETS.items():
        ours, plain = (
            statistics.median(plan.total_bytes / 1e6 / r[title][i] for r in rounds)
            for i in (0, 1)
        )
        reached = ours >= target or ours >= 0.7 * plain
        verdict = "reached" if reached else "missed"
        print(f"{title:14}{ours:10.0f}{plain:10.0f}{ours / plain:8.2f}   ", end="")
        print(f"{target} or 0.7: {verdict}")
        rows[title] = {
            "store_mb_per_s": round(ours),
            "plain_mb_per_s": round(plain),
            "ratio": round(ours / plain, 3),
            "target_mb_per_s": target,
            "reached": reached,
            "seconds": [[round(s, 3) for s in r[title]] for r in rounds],
        }
    facts = {"hardware": hardware(torch.device("cpu")), "versions": versions()}
    given = {k: v for k, v in vars(arguments).items() if k not in ("folder", "out")}
    write_json(Path(arguments.out), {"rows": rows, "store": given, **facts})


if __name__ == "__main__":
    main()
