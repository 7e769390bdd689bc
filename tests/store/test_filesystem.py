"""Files are whole or absent, in a folder or at a URL; locks die with their owner."""

import errno
import fcntl
import os
import uuid
from pathlib import Path

import pytest

from gradnet.errors import GradnetError
from gradnet.store.filesystem import LocalFolder, Location, UrlFolder, open_location


@pytest.fixture(params=["folder", "file URL", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    names = {
        "folder": str(tmp_path / "deep" / "store"),
        "file URL": f"file://{tmp_path}/deep/store",
        "memory": f"memory://{uuid.uuid4()}/store/",
    }
    return open_location(names[request.param])


def test_written_files_are_read(place: Location) -> None:
    assert place.sizes() == {}
    assert not place.exists("a.bin")
    place.write("a.bin", [b"one", memoryview(b"two")])
    place.write("b.bin", [b""])
    assert place.sizes() == {"a.bin": 6, "b.bin": 0}
    assert place.exists("a.bin")
    assert place.read("a.bin") == b"onetwo"
    assert place.local_path("a.bin").read_bytes() == b"onetwo"


def test_written_file_replaces_the_old_one(place: Location) -> None:
    place.write("a.bin", [b"old and long"])
    place.write("a.bin", [b"new"])
    assert place.read("a.bin") == b"new"


def test_parts_of_dead_writers_are_removed(place: Location) -> None:
    place.write("a.bin.123.part", [b"half"])
    place.write("b.bin.123.part", [b"of another file"])
    place.write("a.bin", [b"whole"])
    assert set(place.sizes()) == {"a.bin", "b.bin.123.part"}


def test_failed_write_leaves_nothing(place: Location) -> None:
    with pytest.raises(TypeError):
        place.write("a.bin", [b"half", "text"])  # type: ignore[list-item]
    assert place.sizes() == {}


def test_free_bytes(tmp_path: Path) -> None:
    found = LocalFolder(str(tmp_path / "not" / "there")).free_bytes()
    system = os.statvfs(tmp_path)
    assert found == pytest.approx(system.f_bavail * system.f_frsize, rel=0.2)
    assert UrlFolder("memory://somewhere").free_bytes() is None


def test_unknown_url_is_told() -> None:
    with pytest.raises(GradnetError, match="nosuch://place cannot be opened"):
        open_location("nosuch://place")


def test_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    place = LocalFolder(str(tmp_path / "file"))
    with pytest.raises(GradnetError, match="file: Not a directory"):
        place.sizes()
    with pytest.raises(GradnetError, match="a.bin cannot be written .* File exists"):
        place.write("a.bin", [b""])


def test_folder_is_flushed_after_the_name_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def note(descriptor: int) -> None:
        target = Path(f"/proc/self/fd/{descriptor}").readlink()
        seen.append((target.name[:5], (tmp_path / "a.bin").exists()))

    monkeypatch.setattr(os, "fsync", note)
    LocalFolder(str(tmp_path)).write("a.bin", [b"one"])
    assert seen == [("a.bin", False), (tmp_path.name[:5], True)]


def test_lock_keeps_others_out_until_released(tmp_path: Path) -> None:
    place = LocalFolder(str(tmp_path / "store"))
    lock = place.lock("a")
    other = place.lock("b")
    with pytest.raises(GradnetError, match=r"another run is writing .*a\.lock"):
        place.lock("a")
    lock.release()
    other.release()
    assert place.sizes() == {}
    place.lock("a").release()


def test_lock_file_of_a_dead_writer_keeps_nobody_out(tmp_path: Path) -> None:
    (tmp_path / "a.lock").touch()
    place = LocalFolder(str(tmp_path))
    place.lock("a").release()
    assert place.sizes() == {}


def test_lock_on_a_file_that_its_owner_just_deleted_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, flock = LocalFolder(str(tmp_path)), fcntl.flock
    calls = []

    def slow(descriptor: int, how: int) -> None:
        if not calls:  # the owner releases it now
            (tmp_path / "a.lock").unlink()
        calls.append(how)
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", slow)
    lock = place.lock("a")
    assert len(calls) >= 2  # how often it tries is the library's choice
    assert (tmp_path / "a.lock").exists()
    with pytest.raises(GradnetError, match="another run"):
        place.lock("a")
    lock.release()


@pytest.mark.parametrize(
    "number, message",
    [(errno.ENOSPC, "the disk is full"), (errno.EIO, "Input/output error")],
)
def test_reason_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, message: str
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(GradnetError, match=f"a.bin cannot .* {message}.*run the same"):
        LocalFolder(str(tmp_path)).write("a.bin", [b"one"])
    assert list(tmp_path.iterdir()) == []
