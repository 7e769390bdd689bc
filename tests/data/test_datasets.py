"""Data sets load from every kind of place, and bad ones are refused by name."""

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gradnet.data.datasets import NAMES, TORCHVISION_NAMES, load_data, make_data
from gradnet.errors import GradnetError

GREY = np.arange(6 * 4 * 5, dtype=np.uint8).reshape(6, 4, 5)
COLOUR = np.arange(6 * 4 * 5 * 3, dtype=np.uint8).reshape(6, 4, 5, 3) % 251
LABELS = np.array([0, 1, 2, 0, 1, 2])


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def arrays(**changes: Any) -> dict[str, Any]:
    whole = {"x_train": GREY, "y_train": LABELS, "x_test": GREY, "y_test": LABELS}
    return {k: v for k, v in (whole | changes).items() if v is not None}


@pytest.fixture
def npz(tmp_path: Path) -> Callable[..., str]:
    def write(**changes: Any) -> str:
        np.savez(tmp_path / "toy.npz", **arrays(**changes))
        return str(tmp_path / "toy.npz")

    return write


def write_images(
    folder: Path, classes: str = "ab", count: int = 5, size: tuple[int, int] = (5, 4)
) -> None:
    """PNG images of one colour each: red is the class, green the index."""
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            image = Image.new("RGB", size, (label, index, 7))
            image.save(folder / name / f"{index}.png")


def test_digits_are_embedded_and_complete() -> None:
    data = load_data("digits")
    assert data.image_shape == (1, 8, 8)
    assert (len(data.x_train), len(data.x_test)) == (1438, 359)
    assert data.class_names == tuple("0123456789")
    assert data.x_train.dtype == torch.uint8 and data.y_train.dtype == torch.int64
    assert int(data.x_train.max()) == 255 and int(data.x_train.min()) == 0
    assert torch.equal(data.y_test.unique(), torch.arange(10))


def test_digits_are_the_same_every_time() -> None:
    assert load_data("digits").fingerprint == load_data("digits").fingerprint


def test_digits_do_not_import_torchvision() -> None:
    code = (
        "import sys, gradnet.data.datasets; gradnet.data.datasets.load_data('digits');"
        "print([n for n in sys.modules if n.split('.')[0] == 'torchvision'])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_npz_of_grey_images_is_read_as_it_is(npz: Callable[..., str]) -> None:
    data = load_data(npz())
    assert torch.equal(data.x_train, torch.from_numpy(GREY)[:, None])
    assert torch.equal(data.y_test, torch.from_numpy(LABELS))
    assert data.num_classes == 3
    assert data.image_shape == (1, 4, 5)


@pytest.mark.parametrize("channels_first", [False, True])
def test_channels_may_come_first_or_last(
    npz: Callable[..., str], channels_first: bool
) -> None:
    expected = COLOUR.transpose(0, 3, 1, 2)
    images = expected if channels_first else COLOUR
    data = load_data(npz(x_train=images, x_test=images))
    assert torch.equal(data.x_train, torch.from_numpy(expected.copy()))


@pytest.mark.parametrize("top", [1.0, 255.0])
def test_float_images_become_the_bytes_they_were(top: float) -> None:
    images = GREY.copy()
    images[0, 0, 0] = 255
    scaled = images.astype(np.float32) / 255 * top
    data = make_data("toy", (scaled, LABELS), (scaled, LABELS))
    assert torch.equal(data.x_train, torch.from_numpy(images)[:, None])


def test_labels_may_be_a_column(npz: Callable[..., str]) -> None:
    data = load_data(npz(y_train=LABELS[:, None].astype(np.uint8)))
    assert torch.equal(data.y_train, torch.from_numpy(LABELS))


def with_pixel(value: float) -> np.ndarray:
    images = GREY.astype(np.float32)
    images[3, 1, 2] = value
    return images


BAD_ARRAYS = {
    "missing keys": (dict(y_train=None, x_test=None), "has no y_train, x_test"),
    "label too large": (dict(y_test=LABELS + 3), "y_test has the label 5"),
    "label negative": (dict(y_train=LABELS - 1), "y_train has the label -1"),
    "all labels negative": (dict(y_train=LABELS - 9), "y_train has the label -9"),
    "too few labels": (dict(y_train=LABELS[:5]), r"y_train has shape \(5,\) for 6"),
    "one-hot labels": (dict(y_train=np.eye(3)[LABELS]), r"y_train has shape \(6, 3\)"),
    "float labels": (dict(y_train=LABELS * 1.0), "y_train has type float64"),
    "float test labels": (dict(y_test=LABELS * 1.0), "y_test has type float64"),
    "flat images": (dict(x_train=GREY.reshape(6, 20)), r"x_train has shape \(6, 20\)"),
    "two channels": (
        dict(x_test=np.zeros((6, 2, 4, 5), np.uint8)),
        r"x_test has shape \(6, 2, 4, 5\)",
    ),
    "scalar": (dict(x_train=np.uint8(3)), r"x_train has shape \(\)"),
    "different sizes": (
        dict(x_test=GREY[:, :3]),
        r"training images are \(1, 4, 5\), test images \(1, 3, 5\)",
    ),
    "empty": (dict(x_train=GREY[:0], y_train=LABELS[:0]), "x_train is empty"),
    "empty test": (dict(x_test=GREY[:0], y_test=LABELS[:0]), "x_test is empty"),
    "one class": (dict(y_train=LABELS * 0, y_test=LABELS * 0), "of one class"),
    "NaN": (dict(x_train=with_pixel(np.nan)), r"x_train .*not finite \(image 3\)"),
    "infinite": (dict(x_test=with_pixel(np.inf)), r"x_test .*not finite \(image 3\)"),
    "too bright": (dict(x_train=with_pixel(256)), "values outside 0..255"),
    "negative": (dict(x_train=with_pixel(-1)), "values outside 0..255"),
    "complex": (dict(x_train=GREY * 1j), "x_train has the type complex128"),
    "text": (dict(x_train=GREY.astype(str)), "x_train has the type <U3"),
}


@pytest.mark.parametrize(("changes", "reason"), BAD_ARRAYS.values(), ids=BAD_ARRAYS)
def test_bad_arrays_are_refused_by_name(
    npz: Callable[..., str], changes: dict[str, Any], reason: str
) -> None:
    path = npz(**changes)
    with pytest.raises(GradnetError, match=rf"toy\.npz.*{reason}"):
        load_data(path)


def test_absurdly_large_label_is_refused_at_once(npz: Callable[..., str]) -> None:
    path = npz(y_train=np.array([0, 1, 2, 0, 1, 10**15]))
    with pytest.raises(GradnetError, match="y_train has the label 1000000000000000"):
        load_data(path)


def test_missing_keys_error_says_what_is_there(npz: Callable[..., str]) -> None:
    path = npz(x_train=None, images=GREY)
    with pytest.raises(GradnetError, match="has no x_train; it has .*images"):
        load_data(path)


def test_object_arrays_are_refused_and_never_unpickled(
    npz: Callable[..., str], tmp_path: Path
) -> None:
    trap = tmp_path / "trap"
    images = np.empty(6, dtype=object)
    images[:] = [Hostile(trap)] * 6
    path = npz(x_train=images)
    with pytest.raises(GradnetError, match="x_train cannot be .*: Object arrays"):
        load_data(path)
    assert not trap.exists()
    with np.load(path, allow_pickle=True) as file:
        assert file["x_train"].shape == (6,)
    assert trap.exists(), "the trap itself must work, or this test shows nothing"


def test_pickle_named_npz_is_refused_and_never_unpickled(tmp_path: Path) -> None:
    trap, path = tmp_path / "trap", tmp_path / "toy.npz"
    path.write_bytes(pickle.dumps(Hostile(trap)))
    with pytest.raises(GradnetError, match="npz of plain arrays"):
        load_data(str(path))
    assert not trap.exists()


def test_single_array_named_npz_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "toy.npz").open("wb") as file:
        np.save(file, GREY)
    with pytest.raises(GradnetError, match=r"toy\.npz cannot be read as an \.npz"):
        load_data(str(tmp_path / "toy.npz"))


@pytest.fixture(scope="module")
def compressed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compressed") / "toy.npz"
    np.savez_compressed(path, **arrays())
    return path


@given(st.data())
def test_truncated_npz_is_refused(compressed: Path, data: st.DataObject) -> None:
    whole = compressed.read_bytes()
    cut = data.draw(st.integers(0, len(whole) - 1))
    path = compressed.with_name("cut.npz")
    path.write_bytes(whole[:cut])
    with pytest.raises(GradnetError, match=r"cut\.npz cannot be read as an \.npz"):
        load_data(str(path))


@given(st.data())
def test_damaged_npz_is_refused_or_read_whole(
    compressed: Path, data: st.DataObject
) -> None:
    damaged = bytearray(compressed.read_bytes())
    position = data.draw(st.integers(0, len(damaged) - 1))
    damaged[position] ^= data.draw(st.integers(1, 255))
    path = compressed.with_name("damaged.npz")
    path.write_bytes(damaged)
    try:
        found = load_data(str(path))
    except GradnetError as error:
        assert "damaged.npz" in str(error)
    else:
        assert found.fingerprint == load_data(str(compressed)).fingerprint


@pytest.mark.parametrize("name", ["nothing.npz", "cifar", "nothing/here"])
def test_unknown_data_set_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if name == "nothing.npz":
        with pytest.raises(GradnetError, match=r"nothing\.npz: no such file"):
            load_data(name)
    else:
        with pytest.raises(GradnetError, match=rf"{name!r}: give one of digits, mnist"):
            load_data(name)


def test_folder_of_class_folders_is_split_into_training_and_test(
    tmp_path: Path,
) -> None:
    write_images(tmp_path, "ab", count=5)
    data = load_data(str(tmp_path))
    assert data.class_names == ("a", "b")
    assert data.image_shape == (3, 4, 5)
    assert (len(data.x_train), len(data.x_test)) == (8, 2)
    images = torch.cat([data.x_train, data.x_test])
    labels = torch.cat([data.y_train, data.y_test])
    seen = {(int(y), *x[:, 0, 0].tolist()) for x, y in zip(images, labels, strict=True)}
    assert seen == {(y, y, index, 7) for y in range(2) for index in range(5)}


def test_folder_with_train_and_test_keeps_them_apart(tmp_path: Path) -> None:
    write_images(tmp_path / "train", "abc", count=2)
    write_images(tmp_path / "test", "abc", count=1)
    data = load_data(str(tmp_path))
    assert (len(data.x_train), len(data.x_test)) == (6, 3)
    assert data.y_test.tolist() == [0, 1, 2]
    assert data.x_test[:, 0, 0, 0].tolist() == [0, 1, 2]


def test_grey_and_palette_images_are_read_as_colour(tmp_path: Path) -> None:
    write_images(tmp_path, "ab", count=5)
    Image.new("L", (5, 4), 3).save(tmp_path / "a" / "grey.png")
    Image.new("P", (5, 4)).save(tmp_path / "b" / "palette.png")
    assert load_data(str(tmp_path)).image_shape == (3, 4, 5)


def test_a_folder_of_validation_images_is_named_as_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for part in ("train", "val", "test"):
        write_images(tmp_path / part, "ab", count=2)
    assert len(load_data(str(tmp_path)).x_train) == 4
    assert f"{tmp_path / 'val'} is left out" in caplog.text


def test_folder_with_unlike_classes_names_the_odd_ones(tmp_path: Path) -> None:
    write_images(tmp_path / "train", "abc", count=2)
    write_images(tmp_path / "test", "abd", count=2)
    with pytest.raises(GradnetError, match=r"different class folders: \['c', 'd'\]"):
        load_data(str(tmp_path))


def test_images_of_several_sizes_are_refused(tmp_path: Path) -> None:
    write_images(tmp_path, "ab")
    Image.new("RGB", (7, 6)).save(tmp_path / "b" / "odd.png")
    with pytest.raises(GradnetError, match=r"odd\.png is 7 x 6.* 5 x 4; resize"):
        load_data(str(tmp_path))


def test_unreadable_image_is_named(tmp_path: Path) -> None:
    write_images(tmp_path, "ab")
    (tmp_path / "b" / "text.png").write_text("no image")
    with pytest.raises(GradnetError, match=r"text\.png is not a readable image"):
        load_data(str(tmp_path))


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_images(folder, "ab")
    return folder


@given(
    fraction=st.floats(0, 0.8), suffix=st.sampled_from(["png", "jpg", "bmp", "webp"])
)
def test_truncated_image_is_named(
    image_folder: Path, fraction: float, suffix: str
) -> None:
    path = image_folder / "a" / f"0.{suffix}"
    before = path.read_bytes() if path.exists() else None
    noise = np.random.RandomState(0).randint(0, 255, (4, 5, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(fraction * len(whole))])
    try:
        with pytest.raises(GradnetError, match=rf"0\.{suffix} is not a readable image"):
            load_data(str(image_folder))
    finally:
        path.unlink()
        if before is not None:
            path.write_bytes(before)


def test_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GradnetError, match="not a folder of class folders"):
        load_data(str(tmp_path))


def test_empty_class_folder_is_refused_by_name(tmp_path: Path) -> None:
    write_images(tmp_path, "ab")
    (tmp_path / "nobody").mkdir()
    with pytest.raises(GradnetError, match="not a folder of class folders.*nobody"):
        load_data(str(tmp_path))


def test_folder_of_one_class_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path, "a")
    with pytest.raises(GradnetError, match="of one class; give two"):
        load_data(str(tmp_path))


def test_folder_too_small_for_a_test_part_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path, "ab", count=1)
    with pytest.raises(GradnetError, match="x_test is empty"):
        load_data(str(tmp_path))


@pytest.mark.parametrize("name", TORCHVISION_NAMES)
def test_missing_torchvision_data_says_how_to_get_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(GradnetError, match=f"^{name} is not in .*--download.*--root"):
        load_data(name, root=str(tmp_path))


def test_mnist_files_are_read_through_torchvision(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    images = np.arange(10 * 28 * 28, dtype=np.uint32).reshape(10, 28, 28) % 256
    for prefix in ("train", "t10k"):
        for kind, array in (("images", images), ("labels", np.arange(10))):
            header = bytes([0, 0, 8, array.ndim])
            header += np.array(array.shape, dtype=">i4").tobytes()
            file = raw / f"{prefix}-{kind}-idx{array.ndim}-ubyte"
            file.write_bytes(header + array.astype(np.uint8).tobytes())
    data = load_data("mnist", root=str(tmp_path))
    assert data.image_shape == (1, 28, 28)
    assert np.array_equal(data.x_train[:, 0].numpy(), images)
    assert data.y_test.tolist() == list(range(10))
    assert data.class_names[3] == "3 - three"


@pytest.mark.parametrize("error", [RuntimeError("bad md5"), URLError("no route")])
def test_failed_download_is_told(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    module = SimpleNamespace(CIFAR10=fail)
    monkeypatch.setattr("gradnet.core.torchvision.import_torchvision", lambda: module)
    with pytest.raises(GradnetError, match="cifar10 could not be downloaded: .*"):
        load_data("cifar10", download=True)


def test_download_is_asked_for_only_when_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def make(root: str, train: bool, download: bool) -> SimpleNamespace:
        asked.append((root, train, download))
        return SimpleNamespace(data=COLOUR, targets=LABELS.tolist(), classes="xyz")

    module = SimpleNamespace(CIFAR10=make)
    monkeypatch.setattr("gradnet.core.torchvision.import_torchvision", lambda: module)
    assert load_data("cifar10", root="r").class_names == ("x", "y", "z")
    load_data("cifar10", root="r", download=True)
    assert asked == [
        ("r", True, False),
        ("r", False, False),
        ("r", True, True),
        ("r", False, True),
    ]


@pytest.mark.parametrize("part", ["x_train", "y_train", "x_test", "y_test"])
def test_fingerprint_changes_with_any_part(npz: Callable[..., str], part: str) -> None:
    before = load_data(npz()).fingerprint
    changed = arrays()[part].copy()
    changed.flat[0] += 1
    assert load_data(npz(**{part: changed})).fingerprint != before
    assert load_data(npz()).fingerprint == before
    assert len(before) == 12


def test_fingerprint_changes_with_the_shape_alone() -> None:
    turned = GREY.reshape(6, 5, 4)
    found = {
        make_data("toy", (images, LABELS), (images, LABELS)).fingerprint
        for images in (GREY, turned)
    }
    assert len(found) == 2


def test_data_keeps_its_values_on_a_device() -> None:
    data = make_data("toy", (GREY, LABELS), (GREY, LABELS), ("a", "b", "c"))
    moved = data.to(torch.device("cpu"))
    assert moved.fingerprint == data.fingerprint
    assert moved.class_names == ("a", "b", "c")
    assert data.to(torch.device("meta")).x_train.device.type == "meta"


def test_every_known_name_is_offered() -> None:
    with pytest.raises(GradnetError) as caught:
        load_data("imagenet")
    assert all(name in str(caught.value) for name in NAMES)
