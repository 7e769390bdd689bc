"""Where the files of a store lie: in a local folder, or behind a URL of fsspec."""

import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from gradnet.core.files import write_atomically
from gradnet.errors import GradnetError

Bytes = bytes | memoryview


class Lock(Protocol):
    """What keeps another run from writing the same file."""

    def release(self) -> None:
        """Let others write it."""


class Place(Protocol):
    """A flat set of files; each is there whole, or not at all."""

    name: str

    def sizes(self) -> dict[str, int]:
        """File name -> bytes; empty where nothing was written yet."""

    def exists(self, name: str) -> bool:
        """Whether the file is there."""

    def read(self, name: str) -> bytes:
        """All of a file."""

    def write(self, name: str, parts: Sequence[Bytes]) -> None:
        """Write a file of these parts, one after the other.

        What a killed writer left of the same file is removed.

        Raises:
            GradnetError: the place is full, or cannot be written.
        """

    def local_path(self, name: str) -> Path:
        """Where the file can be mapped into memory."""

    def lock(self, name: str, wait: bool = False) -> Lock:
        """Keep other runs from writing a file.

        Args:
            name: of the file.
            wait: until the other run is done with it.

        Raises:
            GradnetError: another run writes it, and was not to be waited for.
        """

    def free_bytes(self) -> int | None:
        """How much more can be written; None where that is not known."""


def open_place(place: str) -> Place:
    """The place of a path, or of a URL such as ``s3://bucket/store``.

    Raises:
        GradnetError: fsspec does not know URLs of this kind.
    """
    return UrlPlace(place) if "://" in place else LocalPlace(place)


class LocalPlace:
    """A local folder; it is made when the first file is written."""

    def __init__(self, path: str) -> None:
        self.name = path
        self.path = Path(path)

    def sizes(self) -> dict[str, int]:
        """See :class:`Place`."""
        try:
            with os.scandir(self.path) as entries:
                return {e.name: e.stat().st_size for e in entries if e.is_file()}
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise GradnetError(f"{self.name}: {error.strerror}") from error

    def exists(self, name: str) -> bool:
        """See :class:`Place`."""
        return (self.path / name).is_file()

    def read(self, name: str) -> bytes:
        """See :class:`Place`."""
        return (self.path / name).read_bytes()

    def write(self, name: str, parts: Sequence[Bytes]) -> None:
        """See :class:`Place`; on the disk when this returns."""
        path = self.path / name

        def write_parts(file: BinaryIO) -> None:
            for part in parts:
                file.write(part)

        with _told(self.name, name):
            for stale in self.path.glob(f"{name}.*.part"):
                stale.unlink()
            write_atomically(path, write_parts)
            folder = os.open(self.path, os.O_RDONLY)
            try:
                os.fsync(folder)  # or the name may be lost with the power
            finally:
                os.close(folder)

    def local_path(self, name: str) -> Path:
        """See :class:`Place`."""
        return self.path / name

    def lock(self, name: str, wait: bool = False) -> "FileLock":
        """See :class:`Place`; the kernel releases it when the process dies."""
        with _told(self.name, name):
            self.path.mkdir(parents=True, exist_ok=True)
            return FileLock(self.path / f"{name}.lock", wait)

    def free_bytes(self) -> int | None:
        """See :class:`Place`."""
        folders = (self.path.absolute(), *self.path.absolute().parents)
        found = os.statvfs(next(folder for folder in folders if folder.exists()))
        return found.f_bavail * found.f_frsize


class FileLock:
    """An advisory lock on a file that is there only as long as it is held.

    Raises:
        GradnetError: another run holds it.
    """

    def __init__(self, path: Path, wait: bool) -> None:
        self.path = path
        how = fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB
        while True:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(self._descriptor, how)
            except BlockingIOError:
                os.close(self._descriptor)
                raise GradnetError(
                    f"another run is writing this store ({path} is locked); wait for "
                    "it to end, or give each run shards of its own"
                ) from None
            if self._is_current():
                return
            # Its holder deleted it between our opening and our locking of it.
            os.close(self._descriptor)

    def _is_current(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._descriptor), os.stat(self.path))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Delete the file and let others make it anew."""
        self.path.unlink(missing_ok=True)
        os.close(self._descriptor)


class UrlPlace:
    """Files behind a URL.

    A file is written under another name and moved, where the file system can move.
    There are no locks: give each run shards of its own. To be mapped into memory, a
    file is copied to a temporary folder once; it is deleted when the process ends.
    """

    def __init__(self, url: str) -> None:
        # Imported here, for a local folder does without.
        import fsspec

        self.name = url
        try:
            self._system, path = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise GradnetError(f"{url} cannot be opened: {error}") from None
        self._path = path.rstrip("/")
        self._copies = fsspec.filesystem(
            "simplecache", fs=self._system, skip_instance_cache=True
        )

    def sizes(self) -> dict[str, int]:
        """See :class:`Place`."""
        self._system.invalidate_cache(self._path)
        try:
            entries = self._system.ls(self._path, detail=True)
        except FileNotFoundError:
            return {}
        files = (entry for entry in entries if entry["type"] == "file")
        return {entry["name"].rpartition("/")[2]: entry["size"] for entry in files}

    def exists(self, name: str) -> bool:
        """See :class:`Place`."""
        return bool(self._system.isfile(f"{self._path}/{name}"))

    def read(self, name: str) -> bytes:
        """See :class:`Place`."""
        data: bytes = self._system.cat_file(f"{self._path}/{name}")
        return data

    def write(self, name: str, parts: Sequence[Bytes]) -> None:
        """See :class:`Place`."""
        path = f"{self._path}/{name}"
        part = f"{path}.{os.getpid()}.part"
        with _told(self.name, name):
            self._system.makedirs(self._path, exist_ok=True)
            for stale in self._system.glob(f"{path}.*.part"):
                self._system.rm_file(stale)
            try:
                with self._system.open(part, "wb") as file:
                    for data in parts:
                        file.write(data)
                self._system.mv(part, path)
            finally:
                if self._system.exists(part):
                    self._system.rm_file(part)

    def local_path(self, name: str) -> Path:
        """See :class:`Place`."""
        with self._copies.open(f"{self._path}/{name}", "rb") as file:
            return Path(file.name)

    def lock(self, name: str, wait: bool = False) -> "NoLock":
        """See :class:`Place`; it locks nothing."""
        return NoLock()

    def free_bytes(self) -> int | None:
        """See :class:`Place`."""
        return None


class NoLock:
    """Stands where there are no locks."""

    def release(self) -> None:
        """Nothing was locked."""


@contextmanager
def _told(place: str, name: str) -> Iterator[None]:
    """Turn what the system says on writing a file into a line for the user."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = "the disk is full; free some space"
        else:
            reason = f"{error.strerror or error}; mend that"
        raise GradnetError(
            f"{name} cannot be written to {place}: {reason} and run the same again: "
            "finished shards stay as they are"
        ) from error
