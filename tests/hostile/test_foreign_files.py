"""Weights, arrays, images and exported networks that are hostile or damaged."""

from pathlib import Path

import hostile_foreign
import pytest
from hostile_checks import faults_of
from hostile_files import base_network
from hostile_readers import READERS

# Of the values in the fields of an exported network, of which each takes half a second.
STRIDE = 60


def test_whole_files_are_read(tmp_path: Path) -> None:
    whole = tmp_path / "a.pt"
    whole.write_bytes(hostile_foreign.torch_bytes(base_network().state_dict()))
    READERS["weights"](whole)
    (tmp_path / "a.npz").write_bytes(hostile_foreign.npz_bytes())
    READERS["data"](tmp_path / "a.npz")
    image = hostile_foreign.image_bytes("PNG")
    READERS["data"](hostile_foreign.in_folder("whole", image).write(tmp_path))


@pytest.mark.filterwarnings("ignore")
def test_hostile_files_are_refused_in_one_line(tmp_path: Path) -> None:
    files = list(hostile_foreign.all_foreign_files())
    assert len({str(file) for file in files}) >= 300
    assert not (faults := faults_of(files, tmp_path, READERS)), "\n".join(faults)
    assert not hostile_foreign.TRAP.exists()


@pytest.mark.slow
def test_hostile_exports_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.pt2").write_bytes(hostile_foreign.exported())
    READERS["exported"](tmp_path / "a.pt2")
    files = list(hostile_foreign.exported_files(STRIDE))
    assert not (faults := faults_of(files, tmp_path, READERS)), "\n".join(faults)
