"""Snapshots come back bit by bit, and damaged or foreign ones are refused."""

import dataclasses
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from snapshot_cases import ARGUMENTS, make_info

from gradnet.checkpoints.exact_weights import load_exactly
from gradnet.checkpoints.snapshots import (
    SnapshotInfo,
    list_snapshots,
    load_snapshot,
    save_snapshot,
    snapshot_path,
)
from gradnet.checkpoints.tensor_file import (
    HEADER,
    load_with_header,
    save_with_header,
)
from gradnet.core.reproducibility import versions
from gradnet.data.augmentation import Augmentation
from gradnet.data.splits import make_splits
from gradnet.errors import DamagedFileError, GradnetError
from gradnet.models import build_model


def make_model() -> torch.nn.Module:
    return build_model("mlp", **ARGUMENTS)


def header_of(info: SnapshotInfo) -> dict[str, Any]:
    return json.loads(json.dumps(dataclasses.asdict(info)))


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Write a snapshot whose tensors are changed; None leaves one out."""

    def write(**changes: torch.Tensor | None) -> Path:
        tensors = make_model().state_dict()
        tensors |= {name.replace("__", "."): value for name, value in changes.items()}
        tensors = {name: value for name, value in tensors.items() if value is not None}
        header = header_of(make_info())
        return save_with_header(tmp_path / "toy.safetensors", tensors, header)

    return write


def test_round_trip_is_bit_identical(tmp_path: Path) -> None:
    model, info = make_model(), make_info()
    model.linear0.weight.data[0, 0] = -0.0
    model.linear0.weight.data[0, 1] = 1e-42
    path = save_snapshot(tmp_path / "deep" / "a.safetensors", model, info)
    found = load_snapshot(path)
    for name, tensor in model.state_dict().items():
        bits = found.model.state_dict()[name].view(torch.int32)
        assert torch.equal(bits, tensor.view(torch.int32))
    x = torch.randn(5, 1, 4, 4)
    assert torch.equal(found.model(x), model(x))
    assert header_of(found.info) == header_of(info)


def test_loaded_network_is_in_evaluation_mode(save: Callable[..., Path]) -> None:
    assert not load_snapshot(save()).model.training


def test_snapshot_tells_versions_and_augmentation(save: Callable[..., Path]) -> None:
    info = load_snapshot(save()).info
    assert info.versions == versions()
    assert info.make_augmentation() == Augmentation(4, True, (0.2, 1.8))


def test_augmentation_without_contrast_comes_back() -> None:
    plain = Augmentation(whiten=False)
    info = make_info(augmentation=dataclasses.asdict(plain))
    assert info.make_augmentation() == plain


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    model, info = make_model(), make_info()
    first, second = (save_snapshot(tmp_path / name, model, info) for name in "ab")
    assert first.read_bytes() == second.read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("snapshot") / "whole.safetensors"
    return save_snapshot(path, make_model(), make_info())


@given(data=st.data())
def test_truncated_snapshot_is_refused(whole: Path, data: st.DataObject) -> None:
    content = whole.read_bytes()
    path = whole.with_name("cut.safetensors")
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(
        GradnetError, match=r"cut\.safetensors is not a complete safetensors"
    ):
        load_snapshot(path)


def test_every_truncation_of_a_small_file_is_refused(tmp_path: Path) -> None:
    whole = save_with_header(tmp_path / "w", {"a": torch.ones(3)}, {"b": 1})
    content, path = whole.read_bytes(), tmp_path / "cut"
    for cut in range(len(content)):
        path.write_bytes(content[:cut])
        with pytest.raises(GradnetError, match="was it copied in full"):
            load_with_header(path)
    path.write_bytes(content)
    assert load_with_header(path)[0] == {"b": 1}


@given(data=st.data())
def test_damaged_header_never_breaks_the_reader(
    whole: Path, data: st.DataObject
) -> None:
    """A flipped byte may pass unseen in a number; nothing but the error may come."""
    content = bytearray(whole.read_bytes())
    length = int.from_bytes(content[:8], "little") + 8
    position = data.draw(st.integers(0, length - 1))
    content[position] ^= 1 << data.draw(st.integers(0, 7))
    path = whole.with_name("damaged.safetensors")
    path.write_bytes(content)
    try:
        found = load_snapshot(path)
    except GradnetError as error:
        assert str(error)
    else:
        assert found.model.state_dict().keys() == make_model().state_dict().keys()


def test_missing_snapshot_is_told(tmp_path: Path) -> None:
    with pytest.raises(GradnetError, match=r"none\.safetensors: no such file"):
        load_snapshot(tmp_path / "none.safetensors")


def test_foreign_safetensors_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    safetensors.torch.save_file(make_model().state_dict(), path)
    with pytest.raises(GradnetError, match="not written by gradnet.*load_weights"):
        load_snapshot(path)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("{half", "damaged header"),
        ("[1, 2]", "damaged header"),
        ("3", "damaged header"),
        ('{"model": "mlp"}', "is no snapshot: .*missing"),
        ('{"colour": "red"}', "is no snapshot: .*colour"),
    ],
)
def test_strange_header_is_refused(tmp_path: Path, header: str, reason: str) -> None:
    path = tmp_path / "strange.safetensors"
    safetensors.torch.save_file({"a": torch.ones(1)}, path, {HEADER: header})
    with pytest.raises(GradnetError, match=rf"strange\.safetensors.*{reason}"):
        load_snapshot(path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": "resnet"}, "no model 'resnet'"),
        ({"arguments": {"depth": 3}}, "takes no 'depth'"),
        ({"arguments": {"hidden": "wide"}}, "holds no snapshot"),
        ({"arguments": {"image_size": None}}, "holds no snapshot"),
        ({"arguments": 3}, "is no snapshot"),
        ({"model": []}, "is no snapshot"),
    ],
)
def test_header_of_a_model_that_cannot_be_built_is_refused(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    header = header_of(make_info()) | changes
    path = save_with_header(tmp_path / "a", make_model().state_dict(), header)
    with pytest.raises(GradnetError, match=reason):
        load_snapshot(path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            dict(linear0__bias=None, linear1__bias=None),
            "missing: linear0.bias, linear1",
        ),
        (dict(linear7__bias=torch.ones(2)), "not in the model: linear7.bias"),
        (
            dict(linear1__weight=torch.ones(5, 3)),
            r"linear1.weight has shape \(5, 3\), the model's has \(3, 5\)",
        ),
        (
            dict(linear0__bias=torch.full((5,), torch.nan)),
            "linear0.bias has values that are not finite",
        ),
        (
            dict(linear0__bias=torch.full((5,), -torch.inf)),
            "linear0.bias has values that are not finite",
        ),
    ],
    ids=["missing", "extra", "shape", "nan", "infinite"],
)
def test_tensors_that_do_not_fit_are_named(
    save: Callable[..., Path], changes: dict[str, torch.Tensor], reason: str
) -> None:
    path = save(**changes)
    with pytest.raises(GradnetError, match=rf"toy\.safetensors does not fit.*{reason}"):
        load_snapshot(path)


def test_all_faults_are_named_at_once_and_the_model_is_left() -> None:
    model = make_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tensors = {name: value + 1 for name, value in before.items()}
    del tensors["linear0.bias"]
    tensors |= {"other": torch.ones(1), "linear1.bias": torch.ones(9)}
    tensors["linear1.weight"] = tensors["linear1.weight"] * torch.nan
    with pytest.raises(GradnetError) as caught:
        load_exactly(model, tensors, "source")
    for part in (
        "source does not fit",
        "missing: linear0.bias",
        "not in the model: other",
        "linear1.bias has shape (9,)",
        "linear1.weight has values that are not finite",
    ):
        assert part in str(caught.value)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_snapshots_are_listed_by_rising_level(tmp_path: Path) -> None:
    levels = [0.9, 0.1, 0.85, 1.0, 0.05, 0.123456]
    random.Random(0).shuffle(levels)
    for level in levels:
        info = make_info(level=level)
        save_snapshot(snapshot_path(tmp_path, level), make_model(), info)
    (tmp_path / "checkpoint.pt").touch()
    (tmp_path / "level-0.5.txt").touch()
    found = list_snapshots(tmp_path)
    assert list(found) == sorted(levels)
    for level, path in found.items():
        assert load_snapshot(path).info.level == level


def test_strangely_named_file_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / "level-0.5.safetensors").touch()
    (tmp_path / "level-best.safetensors").touch()
    assert list(list_snapshots(tmp_path)) == [0.5]


def test_missing_folder_lists_nothing(tmp_path: Path) -> None:
    assert list_snapshots(tmp_path / "none") == {}


def test_tensors_that_are_views_are_saved_as_they_look(tmp_path: Path) -> None:
    tensor = torch.arange(12.0).reshape(3, 4)
    path = save_with_header(tmp_path / "a", {"t": tensor.T, "s": tensor[::2]}, {})
    _, found = load_with_header(path)
    assert torch.equal(found["t"], tensor.T)
    assert torch.equal(found["s"], tensor[::2])


@pytest.mark.parametrize("change", [{"seed": 1}, {"validation_fraction": 0.2}])
def test_another_split_of_the_same_images_is_refused(change: dict[str, Any]) -> None:
    given: dict[str, Any] = {"seed": 0, "validation_fraction": 0.1}
    info = make_info(split_fingerprint=make_splits(100, **given).fingerprint)
    info.check_split(make_splits(100, **given), info.data_fingerprint, "a")
    other = make_splits(100, **(given | change))
    with pytest.raises(DamagedFileError, match="a was trained on another split"):
        info.check_split(other, info.data_fingerprint, "a")
    # Of other images, nothing is known.
    info.check_split(other, "other", "a")


def test_each_flipped_bit_of_a_tensor_is_seen(save: Callable[..., Path]) -> None:
    path = save()
    whole = path.read_bytes()
    for place in range(1, 150, 7):
        damaged = bytearray(whole)
        damaged[-place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(DamagedFileError, match="the checksum differs"):
            load_snapshot(path)


def test_a_snapshot_without_its_checksum_is_refused_unless_it_is_old(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.safetensors"
    header = {"kind": "snapshot", **header_of(make_info())}
    for number in (0, 1, 2):
        text = json.dumps({**header, "format": number})
        tensors = make_model().state_dict()
        safetensors.torch.save_file(tensors, path, {HEADER: text})
        if number < 2:
            load_snapshot(path)
        else:
            with pytest.raises(DamagedFileError, match="no checksum"):
                load_snapshot(path)
