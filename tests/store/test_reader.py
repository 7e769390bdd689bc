"""Rows are read as they were written, by any range and any blocks, in any order."""

import pickle
import uuid
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from store_cases import assert_equal, make_plan, make_rows, write

from gradnet.errors import GradnetError
from gradnet.store.manifest import MANIFEST
from gradnet.store.reader import GradientStore
from gradnet.store.shard import shard_name

NUM_ROWS = 46


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("where", ["folder", "memory"])
def test_round_trip(tmp_path: Path, dtype: torch.dtype, where: str) -> None:
    place = str(tmp_path) if where == "folder" else f"memory://{uuid.uuid4()}/store"
    plan = write(place, make_plan(dtype=dtype))
    store = GradientStore(place)
    expected = make_rows(plan, 0, plan.num_samples)
    assert_equal(store.read(), expected)
    shards = list(store.shards())
    assert len(shards) == 6
    assert_equal({n: torch.cat([s[n] for s in shards]) for n in expected}, expected)
    store.verify()


def test_what_the_manifest_says(store: GradientStore) -> None:
    plan = make_plan()
    assert store.blocks == {"conv": 5, "": 3}
    assert (store.num_rows, store.num_samples) == (NUM_ROWS, 23)
    assert store.labels_per_sample == 2
    assert store.fingerprint == plan.fingerprint
    assert store.missing == ()


@given(
    rows=st.tuples(st.integers(0, NUM_ROWS), st.integers(0, NUM_ROWS)).map(sorted),
    blocks=st.none() | st.lists(st.sampled_from(["conv", ""]), unique=True),
)
def test_ranges(store_folder: Path, rows: list[int], blocks: list[str] | None) -> None:
    start, stop = rows
    found = GradientStore(str(store_folder)).read(start, stop, blocks)
    names = ["conv", ""] if blocks is None else blocks
    wanted = {"index", "label", "target", "logits"} | {f"block/{n}" for n in names}
    everything = make_rows(make_plan(), 0, 23)
    assert_equal(found, {name: everything[name][start:stop] for name in wanted})


def test_all_rows_from_one_on(store: GradientStore) -> None:
    assert_equal(store.read(44), make_rows(make_plan(), 22, 23))


@pytest.mark.parametrize("rows", [(-1, 2), (3, 2), (0, 47), (47, None)])
def test_rows_that_are_not_there_are_told(
    store: GradientStore, rows: tuple[int, int | None]
) -> None:
    with pytest.raises(GradnetError, match=f"rows {rows[0]} to .* has 46"):
        store.read(*rows)


def test_block_that_is_not_there_is_told(store: GradientStore) -> None:
    with pytest.raises(GradnetError, match="no block 'linear'; it has: conv, "):
        store.read(0, 1, ["linear"])
    with pytest.raises(GradnetError, match="no block 'linear'"):
        next(store.shards(["linear"]))


def test_shards_give_the_blocks_that_are_asked_for(store: GradientStore) -> None:
    (*_, last) = store.shards([""], verify=False)
    expected = make_rows(make_plan(), 20, 23)
    del expected["block/conv"]
    assert_equal(last, expected)


def test_changes_in_place_are_seen_by_nobody(store: GradientStore) -> None:
    store.read(0, 4)["logits"].zero_()
    for rows in store.shards():
        rows["logits"].zero_()
    assert_equal(store.read(0, 8), make_rows(make_plan(), 0, 4))
    store.verify()


def test_rows_are_read_without_the_other_shards(tmp_path: Path) -> None:
    write(tmp_path)
    store = GradientStore(str(tmp_path))
    for number in (0, 3, 4, 5):
        (tmp_path / shard_name(number)).write_bytes(b"")
    assert_equal(store.read(8, 24), make_rows(make_plan(), 4, 12))


def test_store_can_be_sent_to_another_process(store: GradientStore) -> None:
    store.read(0, 1)
    again = pickle.loads(pickle.dumps(store))
    assert_equal(again.read(3, 12), store.read(3, 12))


# What is not there or damaged


def test_place_without_a_store_is_told(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nothing", "memory://nowhere"):
        with pytest.raises(GradnetError, match=f"{place} is no gradient store"):
            GradientStore(str(place))


def test_missing_shards_are_told(tmp_path: Path) -> None:
    write(tmp_path, shards=(1, 3))
    message = "4 of 6 shards are missing: shard-00000.safetensors, shard-00002"
    with pytest.raises(GradnetError, match=message):
        GradientStore(str(tmp_path))


def test_part_of_a_store_can_be_read(tmp_path: Path) -> None:
    plan = write(tmp_path, shards=(1, 3))
    store = GradientStore(str(tmp_path), partial=True)
    assert store.missing == (0, 2, 3, 5) and store.present == [1, 4]
    assert_equal(store.read(8, 16), make_rows(plan, 4, 8))
    with pytest.raises(GradnetError, match="shard-00002.safetensors is missing"):
        store.read(8, 17)
    store.verify()
    first, last = store.shards()
    assert_equal(first, make_rows(plan, 4, 8))
    assert_equal(last, make_rows(plan, 16, 20))
    assert pickle.loads(pickle.dumps(store)).missing == store.missing


@pytest.mark.parametrize("where", ["folder", "file URL"])
def test_truncated_shard_is_told_at_once(tmp_path: Path, where: str) -> None:
    write(tmp_path)
    path = tmp_path / shard_name(4)
    path.write_bytes(path.read_bytes()[:-1])
    place = str(tmp_path) if where == "folder" else f"file://{tmp_path}"
    with pytest.raises(GradnetError, match=f"{path.name} in .* is damaged: it has"):
        GradientStore(place, partial=True)


def test_first_shard_with_a_flipped_bit_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    for number in (2, 4):
        path = tmp_path / shard_name(number)
        data = bytearray(path.read_bytes())
        data[-20] ^= 4
        path.write_bytes(data)
    store = GradientStore(str(tmp_path))
    message = f"{shard_name(2)} is damaged: its checksum is"
    with pytest.raises(GradnetError, match=message):
        store.verify()
    rows = store.shards()
    next(rows), next(rows)
    with pytest.raises(GradnetError, match=message):
        next(rows)
    assert len(list(store.shards(verify=False))) == 6


def test_damaged_manifest_is_told(tmp_path: Path) -> None:
    write(tmp_path)
    text = (tmp_path / MANIFEST).read_text()
    (tmp_path / MANIFEST).write_text(text[:-9])
    with pytest.raises(GradnetError, match="no readable manifest.json"):
        GradientStore(str(tmp_path))
    (tmp_path / MANIFEST).write_text(text.replace('"abc"', '"abd"'))
    store = GradientStore(str(tmp_path))
    with pytest.raises(GradnetError, match="is not shard 0 of this store"):
        store.verify()


@given(samples=st.lists(st.integers(0, 22), max_size=9), blocks=st.booleans())
def test_samples_in_any_order(
    store_folder: Path, samples: list[int], blocks: bool
) -> None:
    store = GradientStore(str(store_folder))
    chosen = ["conv"] if blocks else None
    whole = store.read(blocks=chosen)
    expected = {n: v.unflatten(0, (23, 2))[samples] for n, v in whole.items()}
    assert_equal(store.gather(samples, chosen), expected)


@pytest.mark.parametrize("samples", [[-1], [3, 23]])
def test_samples_that_are_not_there_are_told(
    store: GradientStore, samples: list[int]
) -> None:
    with pytest.raises(GradnetError, match="were asked for; .* has 23"):
        store.gather(samples)
