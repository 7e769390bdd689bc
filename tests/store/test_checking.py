"""A shard is read once in a process before it is used, and never trusted before."""

import logging
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hostile_files import rewrite_shard
from store_cases import contents, make_plan, make_rows, write

from gradnet.errors import DamagedFileError, InvalidInputError
from gradnet.store import checking
from gradnet.store.dataset import StoreDataset
from gradnet.store.reader import GradientStore
from gradnet.store.shard import shard_header, shard_name
from gradnet.store.writer import write_store


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the shards that are read as a whole."""
    found: list[str] = []
    verify = checking.verify_shard
    monkeypatch.setattr(
        checking,
        "verify_shard",
        lambda shard, plan: (found.append(shard.path.name), verify(shard, plan)),
    )
    return found


def flip(path: Path) -> None:
    """The sign of a number."""
    data = bytearray(path.read_bytes())
    data[-17] ^= 128
    path.write_bytes(data)
    os.utime(path, ns=(1, 1))  # as if it were written at another time


USES: dict[str, Callable[[GradientStore], object]] = {
    "read": lambda store: store.read(16, 20),
    "gather": lambda store: store.gather([9]),
    "shards": lambda store: list(store.shards()),
    "data set": lambda store: StoreDataset(store)[9],
    "verify": lambda store: store.verify(),
}


@pytest.mark.parametrize("use", USES)
def test_a_flipped_sign_is_seen_at_first_use(use: str, tmp_path: Path) -> None:
    write(tmp_path)
    flip(tmp_path / shard_name(2))
    with pytest.raises(DamagedFileError, match="shard-00002.* its checksum"):
        USES[use](GradientStore(str(tmp_path)))


@pytest.mark.parametrize("use", [name for name in USES if name != "verify"])
def test_unverified_shards_are_read_as_they_are(
    use: str, tmp_path: Path, verified: list[str]
) -> None:
    write(tmp_path)
    flip(tmp_path / shard_name(2))
    assert USES[use](GradientStore(str(tmp_path), verify=False))
    assert not verified


def test_each_shard_is_verified_once(tmp_path: Path, verified: list[str]) -> None:
    write(tmp_path)
    for _ in range(2):
        store = GradientStore(str(tmp_path))
        store.read(0, 20)
        store.gather([0, 9])
    assert verified == [shard_name(n) for n in range(3)]
    flip(tmp_path / shard_name(1))
    with pytest.raises(DamagedFileError):
        GradientStore(str(tmp_path)).read(8, 9)


@pytest.mark.parametrize("name", ["label", "target"])
@pytest.mark.parametrize("verify", [True, False])
def test_labels_out_of_range_are_named(name: str, verify: bool, tmp_path: Path) -> None:
    write(tmp_path)
    rewrite_shard(tmp_path, name, 3, 99)
    message = f"shard-00002.*the {name} of sample 9 is 99, out of range"
    with pytest.raises(DamagedFileError, match=message):
        GradientStore(str(tmp_path), verify=verify).read(16, 17)


def test_numbers_that_are_not_finite_are_named(tmp_path: Path) -> None:
    write(tmp_path)
    rewrite_shard(tmp_path, "block/conv", 5, torch.nan)
    message = "shard-00002.*block/conv of sample 10 is not finite"
    with pytest.raises(DamagedFileError, match=message):
        GradientStore(str(tmp_path)).read(16, 17)


def swap(folder: Path) -> None:
    one, two = folder / shard_name(1), folder / shard_name(2)
    content = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(content)


@pytest.mark.parametrize("damage", [lambda f: flip(f / shard_name(2)), swap])
def test_a_resumed_writer_accepts_no_damage(
    damage: Callable[[Path], object], tmp_path: Path
) -> None:
    write(tmp_path, shards=(0, 2))
    write(tmp_path, shards=(1, 4))
    damage(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(DamagedFileError, match="shard-0000[12].*delete it and run"):
        write(tmp_path)
    assert contents(tmp_path) == before


def test_a_resumed_writer_may_trust_the_files(tmp_path: Path) -> None:
    write(tmp_path)
    flip(tmp_path / shard_name(2))
    before = contents(tmp_path)
    write(tmp_path, verify=False)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(("name", "value"), [("label", 3), ("target", -1)])
def test_labels_out_of_range_are_not_written(
    name: str, value: int, tmp_path: Path
) -> None:
    plan = make_plan()
    rows = make_rows(plan, 0, 4)
    rows[name][2] = value
    message = f"the {name} of sample 1001 is {value}, out of range"
    with pytest.raises(InvalidInputError, match=message):
        write_store(str(tmp_path), plan, lambda start, stop: [rows])


def test_a_store_without_checksums_is_read_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan = write(tmp_path)
    for number in range(plan.num_shards):
        path = tmp_path / shard_name(number)
        content = path.read_bytes()
        size = 8 + int.from_bytes(content[:8], "little")
        crc32 = zlib.crc32(content[size:])
        header = shard_header(plan, number, crc32)
        assert content.startswith(header)
        mention = f', \\"crc32\\": \\"{crc32:08x}\\"'
        text = header[8:].decode()
        assert mention in text
        text = text.replace(mention, "").ljust(len(header) - 8)
        path.write_bytes(header[:8] + text.encode() + content[size:])
    with caplog.at_level(logging.WARNING, "gradnet"):
        GradientStore(str(tmp_path)).read()
    told = [r for r in caplog.records if "written without checksums" in r.message]
    assert len(told) == 1
