"""The names in a pickle are found in every form, and nothing of it runs."""

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gradnet.core.pickled import imported_names


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


class Recorder(pickle.Unpickler):
    """The slow twin: really loads, and notes what is imported."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.names: list[str] = []

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" not in self.names:
            self.names.append(f"{module}.{name}")
        return super().find_class(module, name)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_names_are_those_that_loading_imports(tmp_path: Path, protocol: int) -> None:
    value = [nn.Linear, {"a": nn.ReLU()}, nn.Linear, Path("x"), "torch", 1j]
    data = pickle.dumps(value, protocol)
    recorder = Recorder(data)
    recorder.load()
    expected = [n for n in recorder.names if n != "collections.OrderedDict"]
    assert len(expected) >= 4
    (tmp_path / "a.pkl").write_bytes(data)
    assert imported_names(tmp_path / "a.pkl") == expected


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_a_hostile_file_of_torch_is_read_and_not_run(tmp_path: Path, new: bool) -> None:
    trap, path = tmp_path / "trap", tmp_path / "a.pt"
    state = {"w": torch.zeros(2), "half": torch.zeros(1).half(), "more": Hostile(trap)}
    torch.save(state, path, _use_new_zipfile_serialization=new)
    assert imported_names(path)[:2] == ["__builtin__.getattr", "pathlib.Path"]
    assert not any(name.startswith("torch.") for name in imported_names(path))
    assert not trap.exists()
    torch.load(path, weights_only=False)
    assert trap.exists(), "the trap itself must work, or this test shows nothing"


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_a_state_dict_imports_nothing_to_speak_of(tmp_path: Path, new: bool) -> None:
    path = tmp_path / "a.pt"
    torch.save(nn.BatchNorm1d(3).state_dict(), path, _use_new_zipfile_serialization=new)
    assert imported_names(path) == []


def test_names_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(b"c\x1b[31mos\nsystem" + b"m" * 200 + b"\n.")
    (name,) = imported_names(tmp_path / "a.pkl")
    assert name.startswith(r"'\x1b[31mos.systemm") and len(name) == 80


@given(content=st.binary(max_size=60))
def test_any_bytes_are_survived(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "other.pkl"
    for data in (content, b"PK\x03\x04" + content):
        path.write_bytes(data)
        assert all(isinstance(name, str) for name in imported_names(path))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
    assert all(isinstance(name, str) for name in imported_names(path))


def test_a_missing_file_has_no_names(tmp_path: Path) -> None:
    assert imported_names(tmp_path / "nothing") == []
