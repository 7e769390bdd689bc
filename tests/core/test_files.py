"""Writes are atomic, logs hold complete lines, checkpoints are never unpickled."""

import hashlib
import os
import pickle
import resource
import struct
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from torch import nn

from gradnet.core.files import (
    load_tensors,
    read_json,
    save_figure,
    save_tensors,
    sha256,
    write_atomically,
    write_json,
    write_text,
)
from gradnet.errors import DamagedFileError


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def fail_halfway(file: BinaryIO) -> None:
    file.write(b"half")
    raise KeyboardInterrupt


def test_written_file_stands_alone_in_a_folder_made_for_it(tmp_path: Path) -> None:
    path = write_atomically(str(tmp_path / "a" / "b"), lambda f: f.write(b"whole"))
    assert path == tmp_path / "a" / "b"
    assert path.read_bytes() == b"whole"
    assert list(path.parent.iterdir()) == [path]


def test_interrupted_write_leaves_the_old_file_and_no_part(tmp_path: Path) -> None:
    path = write_text(tmp_path / "file", "old")
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, fail_halfway)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_interrupted_first_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file", fail_halfway)
    assert list(tmp_path.iterdir()) == []


def test_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = write_text(tmp_path / "file", "old")
    seen = []

    def write(file: BinaryIO) -> None:
        file.write(b"new")
        file.flush()
        seen.append(path.read_text())

    write_atomically(path, write)
    assert seen == ["old"]
    assert path.read_text() == "new"


def test_bytes_are_on_the_disk_before_the_file_takes_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_text(tmp_path / "file", "old")
    synced = []

    def note(descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        synced.append((size, path.read_text()))

    monkeypatch.setattr(os, "fsync", note)
    write_text(path, "longer")
    assert synced == [(6, "old")]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(value=json_values)
def test_json_round_trip(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "value.json"
    assert read_json(write_json(path, value)) == value


def test_missing_json_is_told(tmp_path: Path) -> None:
    with pytest.raises(DamagedFileError, match=r"nothing\.json: no such file"):
        read_json(tmp_path / "nothing.json")


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe\x00", b"text"])
def test_file_that_is_not_json_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.json").write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"bad\.json: not a JSON file"):
        read_json(tmp_path / "bad.json")


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    path = write_text(tmp_path / "file", "abc")
    assert sha256(path) == hashlib.sha256(b"abc").hexdigest()


def test_tensors_round_trip(tmp_path: Path) -> None:
    state = {"w": torch.randn(3, 2), "nested": [{"step": 4, "name": "x"}, None]}
    found = load_tensors(save_tensors(tmp_path / "a.pt", state))
    assert torch.equal(found["w"], state["w"])
    assert found["nested"] == state["nested"]


def test_missing_checkpoint_is_told(tmp_path: Path) -> None:
    with pytest.raises(DamagedFileError, match=r"nothing\.pt: no such file"):
        load_tensors(tmp_path / "nothing.pt")


def test_folder_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(DamagedFileError, match="is a folder; give a regular file"):
        load_tensors(tmp_path)


def test_pickled_module_is_refused_with_reason_and_remedy(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(nn.Linear(2, 2), path)
    with pytest.raises(DamagedFileError) as caught:
        load_tensors(path)
    message = str(caught.value)
    assert "model.pt is refused: it holds pickled objects" in message
    assert "it would have run: torch.nn.modules.linear.Linear" in message
    assert "torch.save(model.state_dict(), ...)" in message
    assert "\n" not in message


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_what_a_pickle_would_import_is_named(tmp_path: Path, is_zip: bool) -> None:
    path = tmp_path / "a.pt"
    state = {"weight": torch.zeros(2), "half": torch.zeros(1).half(), "more": Path("x")}
    torch.save(state, path, _use_new_zipfile_serialization=is_zip)
    with pytest.raises(DamagedFileError, match=r"run: pathlib\.\w*Path\. Save"):
        load_tensors(path)


def test_names_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(b"\x80\x02c\x1b[31mos\nsystem" + b"m" * 200 + b"\n.")
    with pytest.raises(DamagedFileError) as caught:
        load_tensors(path)
    assert str(caught.value).isprintable()
    assert r"run: \x1b[31mos.systemm" in str(caught.value)
    assert "m" * 80 not in str(caught.value)


def test_the_message_never_advises_to_unpickle(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"\x80\x02\x95" + bytes(30))
    with pytest.raises(
        DamagedFileError, match=r"or is damaged \(.+\)\. Save"
    ) as caught:
        load_tensors(tmp_path / "a.pt")
    assert "weights_only" not in str(caught.value)


def test_of_many_pickled_classes_five_are_named(tmp_path: Path) -> None:
    kinds = (nn.ReLU, nn.Tanh, nn.GELU, nn.ELU, nn.SiLU, nn.Mish, nn.Flatten)
    torch.save(kinds, tmp_path / "a.pt")
    with pytest.raises(DamagedFileError, match=r"run: .*\.SiLU and 2 more\."):
        load_tensors(tmp_path / "a.pt")


@pytest.mark.parametrize("form", ["zip", "legacy", "bare pickle"])
def test_hostile_pickle_is_refused_and_not_executed(tmp_path: Path, form: str) -> None:
    trap, path = tmp_path / "trap", tmp_path / "hostile.pt"
    state = {"weight": torch.zeros(2), "more": Hostile(trap)}
    if form == "bare pickle":
        path.write_bytes(pickle.dumps(Hostile(trap), protocol=2))
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(DamagedFileError, match=r"hostile\.pt is refused"):
        load_tensors(path)
    assert not trap.exists()
    if form != "bare pickle":
        torch.load(path, weights_only=False)
        assert trap.exists(), "the trap itself must work, or this test shows nothing"


@pytest.fixture(scope="module", params=["zip", "legacy"])
def checkpoint(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "whole.pt"
    state = {"weight": torch.arange(6.0), "step": 3, "name": "adam"}
    torch.save(state, path, _use_new_zipfile_serialization=request.param == "zip")
    return path


@given(data=st.data())
def test_truncated_checkpoint_is_refused(checkpoint: Path, data: st.DataObject) -> None:
    whole = checkpoint.read_bytes()
    path = checkpoint.with_name("cut.pt")
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(DamagedFileError, match=r"cut\.pt (is refused|cannot be read)"):
        load_tensors(path)


@given(content=st.binary(max_size=60))
def test_any_other_file_is_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "other.pt"
    path.write_bytes(content)
    with pytest.raises(
        DamagedFileError, match=r"other\.pt (is refused|cannot be read)"
    ):
        load_tensors(path)


def test_a_figure_is_written_as_a_picture(tmp_path: Path) -> None:
    figure = Figure(figsize=(2, 1))
    path = save_figure(tmp_path / "folder" / "figure.png", figure, dpi=100)
    header = path.read_bytes()[:24]
    assert header[1:4] == b"PNG"
    assert struct.unpack(">II", header[16:24]) == (200, 100)


def test_parts_of_killed_writers_go_with_the_next_write(tmp_path: Path) -> None:
    stale = tmp_path / "file.99999.part"
    others = [tmp_path / name for name in ("file2.9.part", "file.pt.part", "xfile.9")]
    for path in (stale, *others):
        path.write_bytes(b"half")
    path = write_text(tmp_path / "file", "whole")
    assert sorted(tmp_path.iterdir()) == sorted([path, *others])


def test_a_part_in_use_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"

    def write_meanwhile(file: BinaryIO) -> None:
        file.write(b"outer")
        os_getpid = os.getpid
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "getpid", lambda: os_getpid() + 1)
            write_text(path, "inner")
        assert path.read_text() == "inner"

    write_atomically(path, write_meanwhile)
    assert path.read_text() == "outer"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", ["text", "tensors", "figure", "flush"])
def test_a_full_disk_is_told_with_the_file_and_leaves_the_old_one(
    tmp_path: Path, kind: str
) -> None:
    path = write_text(tmp_path / "file", "old")
    saves = {
        "text": lambda: write_text(path, "x" * 100_000),
        "tensors": lambda: save_tensors(path, {"w": torch.zeros(10_000)}),
        "figure": lambda: save_figure(path, Figure((9, 9)), dpi=300),
        "flush": lambda: write_text(path, "x" * 2_000),  # less than its buffer
    }
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match=r"\[Errno 27\] File too large: '.*file'"):
            saves[kind]()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
