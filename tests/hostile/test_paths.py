"""Paths that lead to no regular file never block, whatever should read them."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hostile_checks import fault_of_line
from hostile_files import base_network
from hostile_foreign import image_bytes, in_folder, odd_paths

from gradnet.checkpoints.exported import load_exported
from gradnet.checkpoints.snapshots import load_snapshot
from gradnet.checkpoints.weights import load_weights
from gradnet.classifier.predictor import GradNetPredictor
from gradnet.core.files import load_tensors, read_json, read_npz, sha256
from gradnet.data.datasets import load_data
from gradnet.errors import GradnetError
from gradnet.growth.grown_network import load_grown
from gradnet.store.reader import GradientStore

READERS: dict[str, Callable[[str], object]] = {
    "snapshot": load_snapshot,
    "weights": lambda path: load_weights(path, base_network()),
    "exported": load_exported,
    "gradnet": lambda path: GradNetPredictor.load(path, base_network()),
    "grown": load_grown,
    "tensors": load_tensors,
    "json": read_json,
    "npz": lambda path: read_npz(path, lambda keys: keys),
    "sha256": sha256,
    "data": load_data,
    "store": GradientStore,
}


@pytest.mark.parametrize("path", odd_paths())
@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_file_is_refused_at_once(
    reader: str, path: str, tmp_path: Path
) -> None:
    given = odd_paths()[path](tmp_path)
    with pytest.raises(GradnetError) as caught:
        READERS[reader](given)
    assert fault_of_line(ascii(str(caught.value))) is None


@pytest.mark.parametrize("path", ["pipe", "circle", "link to a device", "socket"])
def test_a_shard_that_is_no_file_is_missing(path: str, tmp_path: Path) -> None:
    from hostile_files import shard, write_store

    place = write_store(tmp_path)
    shard(place, 2).unlink()
    os.rename(odd_paths()[path](tmp_path), shard(place, 2))
    with pytest.raises(GradnetError, match="shards are missing: shard-00002"):
        GradientStore(str(place))


@pytest.mark.parametrize("path", ["pipe", "circle", "link to a device", "socket"])
def test_an_image_that_is_no_file_is_refused(path: str, tmp_path: Path) -> None:
    place = in_folder("whole", image_bytes("PNG")).write(tmp_path)
    os.rename(odd_paths()[path](tmp_path), place / "b" / "7.png")
    with pytest.raises(GradnetError, match=r"7\.png"):
        load_data(str(place))


def test_links_that_lead_in_a_circle_are_refused(tmp_path: Path) -> None:
    place = in_folder("whole", image_bytes("PNG")).write(tmp_path)
    for name in ("x", "y"):
        (place / "a" / name).symlink_to(place)
    with pytest.raises(GradnetError, match="is the same folder as"):
        load_data(str(place))
