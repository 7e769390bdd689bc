"""Snapshots, GradNets, grown networks and stores that are hostile or damaged."""

from pathlib import Path

import hostile_files
import pytest
from hostile_checks import faults_of
from hostile_readers import READERS


def test_whole_files_are_read(tmp_path: Path) -> None:
    for kind in ("snapshot", "gradnet", "grown"):
        path = tmp_path / f"{kind}.safetensors"
        path.write_bytes(hostile_files.whole_bytes(kind))
        READERS[kind](path)
    READERS["store"](hostile_files.write_store(tmp_path))


def test_hostile_files_are_refused_in_one_line(tmp_path: Path) -> None:
    files = list(hostile_files.all_files(hostile_files.FEW))
    assert len({str(file) for file in files}) >= 400
    assert not (faults := faults_of(files, tmp_path, READERS)), "\n".join(faults)


@pytest.mark.slow
def test_every_value_in_every_field(tmp_path: Path) -> None:
    files = list(hostile_files.all_files(hostile_files.ALL))
    assert len({str(file) for file in files}) >= 6000
    assert not (faults := faults_of(files, tmp_path, READERS)), "\n".join(faults)
