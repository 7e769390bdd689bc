"""A shard is a plain safetensors file, and no damage to it goes unseen."""

from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from store_cases import make_plan, make_rows, write

from gradnet.errors import GradnetError
from gradnet.store.checking import verify_shard
from gradnet.store.manifest import StorePlan
from gradnet.store.shard import (
    check_size,
    memory_of,
    open_shard,
    shard_header,
    shard_name,
    shard_size,
    shard_views,
)

LAST = 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    write(folder)
    return folder


@given(
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    blocks=st.dictionaries(st.text('ab."é', max_size=3), st.integers(1, 5), min_size=1),
    logits=st.integers(1, 4),
    number=st.sampled_from([0, LAST]),
)
def test_the_library_reads_what_the_views_were_given(
    dtype: torch.dtype, blocks: dict[str, int], logits: int, number: int
) -> None:
    plan = make_plan(dtype=dtype, blocks=blocks, num_logits=logits)
    buffer = torch.zeros(plan.shard_rows(0) * plan.row_bytes + 7, dtype=torch.uint8)
    samples = plan.shard_samples(number)
    rows = make_rows(plan, samples.start, samples.stop)
    for name, view in shard_views(plan, number, buffer).items():
        view.copy_(rows[name])
    size = plan.shard_rows(number) * plan.row_bytes
    data = shard_header(plan, number, 1) + bytes(memory_of(buffer)[:size])
    assert len(data) == shard_size(plan, number)
    read = safetensors.torch.load(data)
    assert set(read) == set(rows)
    for name, tensor in rows.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)


def test_shard_is_mapped_whole(folder: Path) -> None:
    plan = make_plan()
    shard = open_shard(folder / shard_name(LAST), plan, LAST)
    verify_shard(shard, plan)
    assert shard.samples == range(20, 23)
    assert list(shard.tensors) == list(plan.tensors)
    for name, tensor in make_rows(plan, 20, 23).items():
        assert torch.equal(shard.tensors[name], tensor)


def test_changing_a_mapped_tensor_leaves_the_file(folder: Path) -> None:
    path, plan = folder / shard_name(1), make_plan()
    before = path.read_bytes()
    open_shard(path, plan, 1).tensors["logits"].zero_()
    assert path.read_bytes() == before
    verify_shard(open_shard(path, plan, 1), plan)


def open_and_verify(path: Path, plan: StorePlan, number: int) -> None:
    check_size(plan, number, path.stat().st_size, str(path.parent))
    verify_shard(open_shard(path, plan, number), plan)


def test_each_flipped_bit_is_seen(folder: Path, tmp_path: Path) -> None:
    plan, path = make_plan(), tmp_path / "damaged"
    whole = (folder / shard_name(LAST)).read_bytes()
    for place in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(GradnetError, match=f"^{path} is "):
            open_and_verify(path, plan, LAST)


@given(st.integers(0, 10**6))
def test_each_other_size_is_seen(folder: Path, size: int) -> None:
    plan = make_plan()
    whole = shard_size(plan, 0)
    check_size(plan, 0, whole, "there")
    size %= 2 * whole
    if size != whole:
        with pytest.raises(GradnetError, match=f"{shard_name(0)} in there is damaged"):
            check_size(plan, 0, size, "there")


@pytest.mark.parametrize("number", [1, LAST])
def test_shard_of_another_place_is_refused(folder: Path, number: int) -> None:
    with pytest.raises(GradnetError, match=f"is not shard {number} of this store"):
        open_shard(folder / shard_name(0), make_plan(), number)


def test_shard_of_another_store_is_refused(folder: Path) -> None:
    other = make_plan(fingerprint={})
    with pytest.raises(GradnetError, match="is not shard 0 of this store"):
        open_shard(folder / shard_name(0), other, 0)


def test_what_is_no_shard_is_refused(tmp_path: Path) -> None:
    foreign = safetensors.torch.save({"weight": torch.zeros(2)})
    for content in (b"", b"text", foreign):
        path = tmp_path / "file"
        path.write_bytes(content)
        with pytest.raises(GradnetError, match="is no whole shard .* delete it"):
            open_shard(path, make_plan(), 0)
    with pytest.raises(GradnetError, match="nothing is no whole shard"):
        open_shard(tmp_path / "nothing", make_plan(), 0)
