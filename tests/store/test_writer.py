"""A store is the same, byte for byte, however often its writing was killed."""

import errno
import multiprocessing
import os
import random
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import fsspec
import pytest
import store_cases
import torch
from store_cases import contents, in_chunks, make_plan, make_rows, write
from torch import Tensor

from gradnet.core import files
from gradnet.core.locks import LockedFile
from gradnet.errors import GradnetError
from gradnet.store import filesystem
from gradnet.store.manifest import MANIFEST
from gradnet.store.shard import shard_name, shard_size
from gradnet.store.writer import survey, write_store

NUM_SHARDS = 6


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    write(folder)
    return contents(folder)


def test_files(whole: dict[str, bytes]) -> None:
    assert list(whole) == [MANIFEST, *map(shard_name, range(NUM_SHARDS))]


@pytest.mark.parametrize("step", [1, 2, 4, 7])
def test_chunks_do_not_matter(
    tmp_path: Path, whole: dict[str, bytes], step: int
) -> None:
    plan = make_plan()
    write_store(str(tmp_path), plan, lambda *part: in_chunks(plan, *part, step))
    assert contents(tmp_path) == whole


def test_writers_share_the_shards(tmp_path: Path, whole: dict[str, bytes]) -> None:
    done: list[int] = []
    for share, samples in ((2, 7), (0, 8), (1, 8)):
        write(tmp_path, shards=(share, 3), on_progress=done.append)
        assert sum(done) == samples
        done.clear()
    assert contents(tmp_path) == whole


@pytest.mark.parametrize("shards", [(-1, 2), (2, 2), (0, 0)])
def test_impossible_share_is_told(tmp_path: Path, shards: tuple[int, int]) -> None:
    with pytest.raises(GradnetError, match=f"no share {shards[0]} of {shards[1]}"):
        write(tmp_path, shards=shards)


def test_finished_shards_are_not_asked_for_again(tmp_path: Path) -> None:
    plan = write(tmp_path, shards=(0, 2))
    asked = []

    def rows(start: int, stop: int) -> Iterator[dict[str, Tensor]]:
        asked.append((start, stop))
        return in_chunks(plan, start, stop)

    found = survey(str(tmp_path), plan)
    assert found.missing == (1, 3, 5) and found.samples == 11
    assert found.bytes == sum(shard_size(plan, number) for number in found.missing)
    write_store(str(tmp_path), plan, rows)
    assert asked == [(4, 8), (12, 16), (20, 23)]
    assert survey(str(tmp_path), plan).missing == ()


def test_store_of_another_plan_is_refused_and_left(tmp_path: Path) -> None:
    write(tmp_path, shards=(0, 2))
    before = contents(tmp_path)
    with pytest.raises(GradnetError, match="settings: fingerprint.weights was 'abc'"):
        write(tmp_path, make_plan(fingerprint={"weights": "abd"}))
    assert contents(tmp_path) == before


def test_manifest_that_another_run_wrote_meanwhile_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = filesystem.LocalFolder.lock

    def other_was_first(self: Any, name: str, wait: bool = False) -> LockedFile:
        monkeypatch.setattr(filesystem.LocalFolder, "lock", lock)
        write(tmp_path, make_plan(num_logits=4), shards=(5, 6))
        return lock(self, name, wait)

    monkeypatch.setattr(filesystem.LocalFolder, "lock", other_was_first)
    with pytest.raises(GradnetError, match="num_logits was 4, now 3"):
        write(tmp_path)
    assert list(contents(tmp_path)) == [MANIFEST, shard_name(5)]


def test_truncated_shard_is_told_and_made_anew_when_deleted(
    tmp_path: Path, whole: dict[str, bytes]
) -> None:
    write(tmp_path)
    path = tmp_path / shard_name(2)
    path.write_bytes(whole[path.name][:-1])
    with pytest.raises(GradnetError, match=f"{path.name} .* is damaged.* delete it"):
        write(tmp_path)
    path.unlink()
    write(tmp_path)
    assert contents(tmp_path) == whole


# What is killed


def run_writers(folder: Path, writers: int, seconds: float | None) -> tuple[int, float]:
    """Write with several processes, and kill them after a time.

    Returns:
        How many of them were killed at work, and how long they ran.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["gradnet.store.writer"])
    pipe, ready = context.Pipe()
    arguments = [(str(folder), (share, writers), ready) for share in range(writers)]
    running = [
        context.Process(target=store_cases.write_slowly, args=given)
        for given in arguments
    ]
    for process in running:
        process.start()
    for _ in running:
        assert pipe.poll(60)
        pipe.recv()
    start = time.monotonic()
    if seconds is not None:
        time.sleep(seconds)
        for process in running:
            process.kill()
    for process in running:
        process.join()
    assert {process.exitcode for process in running} <= {0, -9}
    killed = sum(process.exitcode == -9 for process in running)
    return killed, time.monotonic() - start


def kill_writers(
    folder: Path, kills: int, writers: int, whole: dict[str, bytes], seed: int
) -> dict[str, int]:
    """Kill writers at random times, and finish their stores; counts what was left."""
    rng = random.Random(seed)
    _, longest = run_writers(folder / "first", writers, None)
    assert contents(folder / "first") == whole
    killed = store = 0
    left = {"part": 0, "lock": 0, "some shards": 0, "finished": 0}
    while killed < kills:
        place = folder / str(store)
        killed += run_writers(place, writers, rng.uniform(0, longest))[0]
        names = list(contents(place)) if place.exists() else []
        left["part"] += any(name.endswith(".part") for name in names)
        left["lock"] += any(name.endswith(".lock") for name in names)
        shards = sum(name.endswith(".safetensors") for name in names)
        left["some shards"] += 0 < shards < NUM_SHARDS
        # Some are killed several times before they are finished.
        if shards == NUM_SHARDS or rng.random() < 0.3 or killed >= kills:
            write(place)
            assert contents(place) == whole
            left["finished"] += 1
            store += 1
    return left


@pytest.mark.parametrize("writers", [1, 2])
def test_killed_store_is_finished_to_the_same_bytes(
    tmp_path: Path, whole: dict[str, bytes], writers: int
) -> None:
    left = kill_writers(tmp_path, 3 * writers, writers, whole, seed=writers)
    assert left["finished"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("writers", [1, 2])
def test_two_hundred_kills(
    tmp_path: Path, whole: dict[str, bytes], writers: int
) -> None:
    left = kill_writers(tmp_path, 200, writers, whole, seed=0)
    print(left)
    assert min(left.values()) >= 5, left


@pytest.mark.parametrize(
    "name",
    [
        f"{MANIFEST}.lock",
        f"{MANIFEST}.99999.part",
        "shard-00002.lock",
        f"{shard_name(2)}.99999.part",
        "shard-00003.lock",
        f"{shard_name(3)}.99999.part",
    ],
)
def test_what_the_dead_left_is_removed(
    tmp_path: Path, whole: dict[str, bytes], name: str
) -> None:
    if not name.endswith(".part") or "3" in name[:11]:
        write(tmp_path)
        (tmp_path / shard_name(3)).unlink()
    (tmp_path / name).write_bytes(b"half")
    if name.startswith(shard_name(2)):
        (tmp_path / shard_name(2)).unlink(missing_ok=True)
    write(tmp_path)
    assert contents(tmp_path) == whole


# What is locked


def test_second_run_on_a_store_ends(tmp_path: Path, whole: dict[str, bytes]) -> None:
    plan, refused = make_plan(), []

    def rows(start: int, stop: int) -> Iterator[dict[str, Tensor]]:
        with pytest.raises(GradnetError, match="another run is writing this store"):
            write(tmp_path)
        refused.append(start)
        return in_chunks(plan, start, stop)

    write_store(str(tmp_path), plan, rows)
    assert len(refused) == NUM_SHARDS
    assert contents(tmp_path) == whole


def test_second_run_finds_no_gap_between_shards(
    tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    release, refused = LockedFile.release, []

    def released(lock: LockedFile) -> None:
        release(lock)
        if lock.path.name.startswith("shard") and len(refused) < NUM_SHARDS - 1:
            monkeypatch.setattr(LockedFile, "release", release)
            with pytest.raises(GradnetError, match="another run"):
                write(tmp_path)
            refused.append(lock.path.name)
            monkeypatch.setattr(LockedFile, "release", released)

    monkeypatch.setattr(LockedFile, "release", released)
    write(tmp_path)
    assert len(refused) == NUM_SHARDS - 1
    assert contents(tmp_path) == whole


def test_run_on_other_shards_goes_on_meanwhile(
    tmp_path: Path, whole: dict[str, bytes]
) -> None:
    plan = make_plan()

    def rows(start: int, stop: int) -> Iterator[dict[str, Tensor]]:
        write(tmp_path, shards=(1, 2))
        return in_chunks(plan, start, stop)

    write_store(str(tmp_path), plan, rows, shards=(0, 2))
    assert contents(tmp_path) == whole


def test_shard_that_another_run_ended_meanwhile_is_kept(
    tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[int] = []
    lock = filesystem.LocalFolder.lock

    def other_ends_first(self: Any, name: str, wait: bool = False) -> LockedFile:
        if name.startswith("shard"):
            (tmp_path / shard_name(int(name[-5:]))).touch()
        return lock(self, name, wait)

    monkeypatch.setattr(filesystem.LocalFolder, "lock", other_ends_first)
    write(tmp_path, on_progress=done.append)
    assert sum(done) == 23
    assert {len(d) for n, d in contents(tmp_path).items() if n != MANIFEST} == {0}


# What does not fit, or must not be written


def set_free(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    found = SimpleNamespace(f_bavail=free, f_frsize=1)
    monkeypatch.setattr(os, "statvfs", lambda path: found)


def test_store_that_does_not_fit_is_refused_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "store"
    needed = sum(shard_size(make_plan(), number) for number in range(NUM_SHARDS))
    set_free(monkeypatch, needed - 1)
    message = r"store has 6\.\d+ kB free, the store needs 6\.\d+ kB more"
    with pytest.raises(GradnetError, match=message):
        write(folder)
    assert not folder.exists()
    set_free(monkeypatch, needed)
    write(folder)


def test_only_what_is_missing_must_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, bytes]
) -> None:
    plan = write(tmp_path)
    (tmp_path / shard_name(2)).unlink()
    set_free(monkeypatch, shard_size(plan, 2) - 10)
    with pytest.raises(GradnetError, match="more; free some space"):
        write(tmp_path)
    (tmp_path / f"{shard_name(2)}.99999.part").write_bytes(b"half a one")
    write(tmp_path)
    assert contents(tmp_path) == whole


class FullDisk:
    """A file on a disk that has room for some bytes yet."""

    def __init__(self, file: BinaryIO, room: int) -> None:
        self.file, self.room = file, room

    def write(self, data: bytes) -> None:
        self.file.write(data[: self.room])
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_disk_that_fills_up_costs_the_unfinished_shard_only(
    tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_atomically(path: Path, fill: Callable[[Any], object]) -> Path:
        room = 700 if path.name == shard_name(3) else 10**6
        return files.write_atomically(path, lambda file: fill(FullDisk(file, room)))

    monkeypatch.setattr(filesystem, "write_atomically", write_atomically)
    message = f"{shard_name(3)} cannot be written to .*: the disk is full"
    with pytest.raises(GradnetError, match=message):
        write(tmp_path)
    finished = {name: whole[name] for name in list(whole)[:4]}
    assert contents(tmp_path) == finished
    monkeypatch.undo()
    write(tmp_path)
    assert contents(tmp_path) == whole


@pytest.fixture
def read_only_store() -> Iterator[Path]:
    """A store of some shards that an ordinary user can read and not write."""
    folder = Path(tempfile.mkdtemp())  # of all users, unlike tmp_path
    write(folder, shards=(0, 2))
    folder.chmod(0o555)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    yield folder
    if is_root:
        os.seteuid(0)
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_read_only_folder_is_told(read_only_store: Path) -> None:
    before = contents(read_only_store)
    with pytest.raises(GradnetError, match="cannot be written to .*Permission denied"):
        write(read_only_store)
    assert contents(read_only_store) == before
    write(read_only_store, shards=(0, 2))  # there is nothing to write


def test_error_in_the_rows_leaves_nothing_half(
    tmp_path: Path, whole: dict[str, bytes]
) -> None:
    plan = make_plan()

    def rows(start: int, stop: int) -> Iterator[dict[str, Tensor]]:
        yield make_rows(plan, start, start + 1)
        if start == 8:
            raise KeyboardInterrupt
        yield make_rows(plan, start + 1, stop)

    with pytest.raises(KeyboardInterrupt):
        write_store(str(tmp_path), plan, rows)
    assert list(contents(tmp_path)) == [MANIFEST, shard_name(0), shard_name(1)]
    write(tmp_path)
    assert contents(tmp_path) == whole


def write_spoilt(folder: Path, spoil: Callable[[dict[str, Tensor]], object]) -> None:
    """Spoil the rows of samples 15 to 17, the first of which ends a shard."""
    plan = make_plan()

    def rows(start: int, stop: int) -> Iterator[dict[str, Tensor]]:
        for chunk in in_chunks(plan, start, stop):
            if start == 12:
                spoil(chunk)
            yield chunk

    try:
        write_store(str(folder), plan, rows)
    finally:
        assert list(contents(folder)) == [MANIFEST, *map(shard_name, range(3))]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["block/conv", "block/", "logits"])
def test_values_that_are_not_finite_are_told(
    tmp_path: Path, name: str, value: float
) -> None:
    def spoil(rows: dict[str, Tensor]) -> None:
        if 1014 in rows["index"]:
            rows[name][2 * 2 + 1, 2] = value

    with pytest.raises(
        GradnetError, match=f"^{name} of sample 1014 at label 1 is not finite in"
    ):
        write_spoilt(tmp_path, spoil)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"block/conv": torch.zeros(6, 4)}, r"block/conv came as \(6, 4\) of .*\(6, 5"),
        ({"block/conv": torch.zeros(5, 5)}, r"block/conv came as \(5, 5\)"),
        ({"block/": torch.zeros(6, 3).bfloat16()}, "block/ came as .*torch.bfloat16"),
        ({"logits": torch.zeros(6, 3).double()}, "logits came as .*torch.float64"),
        ({"target": torch.zeros(6, 1).long()}, r"target came as \(6, 1\)"),
        ({"label": torch.zeros(6).int()}, "label came as .*torch.int32"),
        ({"block/new": torch.zeros(6, 1)}, "missing or unknown: block/new"),
        ({"index": torch.zeros(5).long()}, "5 rows came at once, at 2 labels"),
    ],
)
def test_rows_of_another_form_are_told(
    tmp_path: Path, changes: dict[str, Tensor], message: str
) -> None:
    with pytest.raises(GradnetError, match=message):
        write_spoilt(tmp_path, lambda rows: rows.update(changes))


def test_missing_tensor_is_told(tmp_path: Path) -> None:
    with pytest.raises(GradnetError, match="missing or unknown: logits"):
        write_spoilt(tmp_path, lambda rows: rows.pop("logits"))


@pytest.mark.parametrize("change", [-1, 1])
def test_wrong_number_of_samples_is_told(tmp_path: Path, change: int) -> None:
    plan = make_plan()
    message = f"samples 0 to 3 gave {8 + 2 * change} rows in place of 8"
    with pytest.raises(GradnetError, match=message):
        write_store(
            str(tmp_path),
            plan,
            lambda *part: in_chunks(plan, part[0], part[1] + change),
        )
    assert list(contents(tmp_path)) == [MANIFEST]


# What is far away


def test_store_behind_a_url_has_the_same_bytes(whole: dict[str, bytes]) -> None:
    url = f"memory://{uuid.uuid4()}/store"
    write(url, shards=(1, 2))
    system, path = fsspec.core.url_to_fs(url)
    system.pipe_file(f"{path}/{shard_name(0)}.99999.part", b"half")
    write(url)
    found = system.cat(f"{path}/*")
    assert {name.rpartition("/")[2]: data for name, data in found.items()} == whole
    with pytest.raises(GradnetError, match="num_samples was 23, now 24"):
        write(url, make_plan(num_samples=24))
