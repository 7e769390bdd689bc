"""Reading and writing the files of a store, in a local folder or behind a URL."""

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO, Protocol

from gradnet.core.files import write_atomically
from gradnet.core.locks import LockedFile
from gradnet.core.plain_values import MAX_JSON_BYTES
from gradnet.core.regular_files import MAX_NAME, regular_file
from gradnet.core.text import reason_of
from gradnet.errors import DamagedFileError, GradnetError, InvalidInputError

Bytes = bytes | memoryview
BUSY = (
    "another run is writing this store; wait for it to end, or give each run shards of "
    "its own"
)


class Location(Protocol):
    """A flat set of files, each of which is written atomically."""

    name: str

    def sizes(self) -> dict[str, int]:
        """File name -> bytes; empty where nothing was written yet."""

    def exists(self, name: str) -> bool:
        """Whether the file is there."""

    def read(self, name: str) -> bytes:
        """The content of a file that is small, such as a manifest.

        Raises:
            DamagedFileError: it is too large.
        """

    def write(self, name: str, parts: Sequence[Bytes]) -> None:
        """Write a file, the concatenation of these parts, atomically.

        Temporary files that a killed writer of the same file left are removed.

        Raises:
            GradnetError: the disk is full, or the file cannot be written.
        """

    def local_path(self, name: str) -> Path:
        """A local path at which the file can be mapped into memory."""

    def lock(self, name: str, wait: bool = False) -> AbstractContextManager[object]:
        """Keep other processes from writing a file until the context is left.

        The lock is held when this returns.

        Args:
            name: of the file.
            wait: until another process releases it, instead of raising.

        Raises:
            BusyError: another process is writing it, and ``wait`` is false.
            GradnetError: the lock file cannot be created.
        """

    def free_bytes(self) -> int | None:
        """The free space; None if unknown."""


def open_location(location: str) -> Location:
    """Open a folder by its path, or by a URL such as ``s3://bucket/store``.

    Raises:
        InvalidInputError: fsspec cannot open URLs of this kind.
    """
    return UrlFolder(location) if "://" in location else LocalFolder(location)


class LocalFolder:
    """A local folder, created when the first file is written."""

    def __init__(self, path: str) -> None:
        self.name = path
        self.path = Path(path)

    def sizes(self) -> dict[str, int]:
        """See :class:`Location`."""
        try:
            with os.scandir(self.path) as entries:
                return {e.name: e.stat().st_size for e in entries if _is_file(e)}
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise GradnetError(f"{self.name[:MAX_NAME]}: {error.strerror}") from error
        except ValueError as error:  # a NUL, or what the file system cannot encode
            raise InvalidInputError(
                f"{self.name!a} is no path: {reason_of(error)}"
            ) from None

    def exists(self, name: str) -> bool:
        """See :class:`Location`."""
        return (self.path / name).is_file()

    def read(self, name: str) -> bytes:
        """See :class:`Location`."""
        path = regular_file(self.path / name)
        _check_read(str(path), path.stat().st_size)
        return path.read_bytes()

    def write(self, name: str, parts: Sequence[Bytes]) -> None:
        """See :class:`Location`; flushed to the disk when this returns."""
        path = self.path / name

        def write_parts(file: BinaryIO) -> None:
            for part in parts:
                file.write(part)

        with _explain_write_errors(self.name, name):
            for stale in self.path.glob(f"{name}.*.part"):
                stale.unlink()
            write_atomically(path, write_parts)
            folder = os.open(self.path, os.O_RDONLY)
            try:
                os.fsync(folder)  # or a power failure may lose the new name
            finally:
                os.close(folder)

    def local_path(self, name: str) -> Path:
        """See :class:`Location`."""
        return self.path / name

    def lock(self, name: str, wait: bool = False) -> LockedFile:
        """See :class:`Location`; released by the system when the process dies."""
        with _explain_write_errors(self.name, name):
            self.path.mkdir(parents=True, exist_ok=True)
            return LockedFile(self.path / f"{name}.lock", wait, BUSY)

    def free_bytes(self) -> int | None:
        """See :class:`Location`."""
        folders = (self.path.absolute(), *self.path.absolute().parents)
        found = os.statvfs(next(folder for folder in folders if folder.exists()))
        return found.f_bavail * found.f_frsize


class UrlFolder:
    """A folder behind a URL that fsspec can open.

    A file is written under a temporary name and then renamed, where the file system
    can rename. There are no locks: give each run shards of its own. To be mapped into
    memory, a file is downloaded once to a temporary folder, which is deleted when the
    process ends.
    """

    def __init__(self, url: str) -> None:
        # Imported here because local folders do not need it.
        import fsspec

        self.name = url
        try:
            self._system, path = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise InvalidInputError(f"{url} cannot be opened: {error}") from None
        self._path = path.rstrip("/")
        self._copies = fsspec.filesystem(
            "simplecache", fs=self._system, skip_instance_cache=True
        )

    def sizes(self) -> dict[str, int]:
        """See :class:`Location`."""
        self._system.invalidate_cache(self._path)
        try:
            entries = self._system.ls(self._path, detail=True)
        except FileNotFoundError:
            return {}
        files = (entry for entry in entries if entry["type"] == "file")
        return {entry["name"].rpartition("/")[2]: entry["size"] for entry in files}

    def exists(self, name: str) -> bool:
        """See :class:`Location`."""
        return bool(self._system.isfile(f"{self._path}/{name}"))

    def read(self, name: str) -> bytes:
        """See :class:`Location`."""
        path = f"{self._path}/{name}"
        _check_read(path, self._system.size(path) or 0)
        data: bytes = self._system.cat_file(path)
        return data

    def write(self, name: str, parts: Sequence[Bytes]) -> None:
        """See :class:`Location`."""
        path = f"{self._path}/{name}"
        part = f"{path}.{os.getpid()}.part"
        with _explain_write_errors(self.name, name):
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
        """See :class:`Location`."""
        with self._copies.open(f"{self._path}/{name}", "rb") as file:
            return Path(file.name)

    def lock(self, name: str, wait: bool = False) -> AbstractContextManager[object]:
        """See :class:`Location`; nothing is locked."""
        return nullcontext()

    def free_bytes(self) -> int | None:
        """See :class:`Location`."""
        return None


def _check_read(path: str, size: int) -> None:
    """Refuse to read into memory what is too large for a manifest."""
    if size > MAX_JSON_BYTES:
        raise DamagedFileError(
            f"{path} has {size:,} bytes; a manifest has at most {MAX_JSON_BYTES:,}"
        )


def _is_file(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_file()
    except OSError:  # symbolic links in a circle
        return False


@contextmanager
def _explain_write_errors(location: str, name: str) -> Iterator[None]:
    """Turn errors of the operating system into one line that names the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = "the disk is full; free some space"
        else:
            reason = f"{error.strerror or error}; solve this"
        raise GradnetError(
            f"{name} cannot be written to {location}: {reason} and run the same again: "
            "finished shards are kept"
        ) from error
