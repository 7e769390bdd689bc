"""Snapshots, GradNets, grown networks and stores that are hostile or damaged."""

from collections.abc import Callable
from pathlib import Path

import hostile_files
import pytest
from hostile_checks import faults_of
from hostile_files import HostileFile

from gradnet.checkpoints.snapshots import load_snapshot
from gradnet.classifier.predictor import GradNetPredictor
from gradnet.growth.grown_network import load_grown
from gradnet.store.reader import GradientStore


def read_store(path: Path) -> object:
    return GradientStore(str(path)).read()


READERS: dict[str, Callable[[Path], object]] = {
    "snapshot": load_snapshot,
    "gradnet": lambda path: GradNetPredictor.load(path, hostile_files.base_network()),
    "grown": load_grown,
    "store": read_store,
}


def check_all(files: list[HostileFile], tmp_path: Path) -> None:
    assert not (faults := faults_of(files, tmp_path, READERS)), "\n".join(faults)


def test_whole_files_are_read(tmp_path: Path) -> None:
    for kind in ("snapshot", "gradnet", "grown"):
        path = tmp_path / f"{kind}.safetensors"
        path.write_bytes(hostile_files.whole_bytes(kind))
        READERS[kind](path)
    read_store(hostile_files.write_store(tmp_path))


def test_hostile_files_are_refused_in_one_line(tmp_path: Path) -> None:
    files = list(hostile_files.all_files(hostile_files.FEW))
    assert len({str(file) for file in files}) >= 400
    check_all(files, tmp_path)


@pytest.mark.slow
def test_every_value_in_every_field(tmp_path: Path) -> None:
    check_all(list(hostile_files.all_files(hostile_files.ALL)), tmp_path)
