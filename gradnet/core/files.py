"""Atomic writes, and reading of JSON, tensors and arrays without unpickling."""

import hashlib
import json
import os
import pickle
import pickletools
import re
import zipfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

import filelock
import numpy as np
import torch
from numpy.lib.npyio import NpzFile
from torch.serialization import get_unsafe_globals_in_checkpoint

from gradnet.core.archives import check_archive
from gradnet.core.pickle_bombs import check_tuples
from gradnet.core.plain_values import check_plain, read_json
from gradnet.core.regular_files import regular_file
from gradnet.core.text import one_line, reason_of
from gradnet.errors import DamagedFileError

__all__ = [
    "load_tensors",
    "read_json",
    "read_npz",
    "save_figure",
    "save_tensors",
    "sha256",
    "write_atomically",
    "write_json",
    "write_text",
]


MAX_NAMES = 5
LONGEST_NAME = 80
# Of the file NAME, as a process with some number writes it.
PART = re.compile(r"(.+)\.\d+\.part", re.DOTALL)
# What torch.save writes for tensors and plain values.
OF_TENSORS = re.compile(
    r"collections\.OrderedDict|torch\._utils\._rebuild_\w+|torch\.storage\.\w+"
    r"|torch\.(\w*Storage|Size|device|b?float\d+|u?int\d+|bool|complex\d+)"
)


ZIP_STARTS = b"PK\x03\x04", b"PK\x05\x06"
ADVICE = re.compile(r"weights.only|pickle", re.IGNORECASE)


def write_atomically(path: str | Path, write: Callable[[BinaryIO], object]) -> Path:
    """Write a file atomically: to a temporary name, flushed to disk, then renamed.

    A reader sees the old file or the new one, never a part of either; a process that
    is killed while writing leaves ``path`` as it was. What a killed process left of
    its own temporary file is removed by the next one that writes ``path``.

    Args:
        path: the file to write; missing folders are created.
        write: called once with the open binary file; writes the content to it.

    Returns:
        The path, as a :class:`~pathlib.Path`.

    Raises:
        OSError: it cannot be written, for example because the disk is full; it names
            ``path``.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale_parts(path.parent, path.name)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    file = _Recorded(_open_locked(part))
    try:
        # Locked until it has its name: no other process takes it for a stale one.
        with file.raw:
            write(cast(BinaryIO, file))
            file.flush()
            os.fsync(file.fileno())
            part.replace(path)
    except Exception as error:
        # torch.save reports a full disk as an error of its own, without the cause.
        cause = file.failure or error
        if isinstance(cause, OSError) and cause.errno is not None:
            reason = cause.strerror or os.strerror(cause.errno)
            raise OSError(cause.errno, reason, str(path)) from error
        raise
    finally:
        part.unlink(missing_ok=True)
    return path


def remove_stale_parts(folder: Path, name: str = "*") -> None:
    """Remove temporary files of killed processes; those in use are left alone.

    Args:
        folder: where they are.
        name: of the file that they were to become; default: of any.
    """
    pattern = re.compile(r".+" if name == "*" else re.escape(name))
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        for path in list(folder.iterdir()):
            match = PART.fullmatch(path.name)
            if match and pattern.fullmatch(match[1]):
                _remove_unless_locked(path)


def _remove_unless_locked(path: Path) -> None:
    # Gone, of another user, or on a file system without locks: then it stays.
    with suppress(OSError), path.open("r+b") as file:
        if filelock.lock_descriptor(file.fileno(), blocking=False):
            path.unlink()


def _open_locked(part: Path) -> BinaryIO:
    """Open a temporary file, and lock it as long as it is open."""
    while True:
        file = part.open("wb")
        # A file system without locks: then no other process removes it either.
        with suppress(OSError):
            filelock.lock_descriptor(file.fileno())
            # Unless another process removed it between the opening and the locking.
            if not os.path.samestat(os.stat(part), os.fstat(file.fileno())):
                file.close()
                continue
        return file


class _Recorded:
    """A file that remembers the error with which the system refused a write."""

    def __init__(self, raw: BinaryIO) -> None:
        self.raw = raw
        self.failure: OSError | None = None

    def write(self, data: Any) -> int:
        """Write, as the file does."""
        try:
            return self.raw.write(data)
        except OSError as error:
            self.failure = error
            raise

    def flush(self) -> None:
        """Flush, as the file does."""
        try:
            self.raw.flush()
        except OSError as error:
            self.failure = error
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


def write_text(path: str | Path, text: str) -> Path:
    """Write ``text`` as UTF-8, atomically."""
    return write_atomically(path, lambda file: file.write(text.encode()))


def write_json(path: str | Path, value: object) -> Path:
    """Write ``value`` as indented JSON, atomically."""
    return write_text(path, json.dumps(value, indent=2) + "\n")


def save_figure(path: str | Path, figure: Any, dpi: int = 150) -> Path:
    """Write a figure of matplotlib as PNG, atomically."""
    return write_atomically(
        path, lambda file: figure.savefig(file, format="png", dpi=dpi)
    )


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        DamagedFileError: it is missing or no regular file.
    """
    with regular_file(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_tensors(path: str | Path, state: object) -> Path:
    """Write tensors and plain values with ``torch.save``, atomically."""
    return write_atomically(path, lambda file: torch.save(state, file))


def load_tensors(path: str | Path) -> Any:
    """Read a file of ``torch.save`` that holds tensors and plain values only.

    Raises:
        DamagedFileError: it is missing, damaged, or holds pickled objects, which could
            run any code when loaded; the message names what they would have imported.
    """
    check_archive(regular_file(path))
    check_tuples(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        check_plain(state)
        return state
    except pickle.UnpicklingError as error:
        names = _pickled_names(path)
        more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
        fault = (
            f"when loaded; it would have run: {', '.join(names[:MAX_NAMES])}{more}"
            if names
            else f"when loaded, or is damaged ({_unpickling_reason(error)})"
        )
        raise DamagedFileError(
            f"{path} is refused: it holds pickled objects, which could run any code "
            f"{fault}. Save the state dict instead: torch.save(model.state_dict(), ...)"
        ) from None
    except Exception as error:  # a damaged file fails wherever the reader is
        raise DamagedFileError(
            f"{path} cannot be read as a checkpoint: {_without_advice(error)}"
        ) from None


def _pickled_names(path: str | Path) -> list[str]:
    """What a refused file would import, for the message; nothing of it is run."""
    try:
        names = sorted(get_unsafe_globals_in_checkpoint(path))
    except Exception:  # not the zip format of torch.save, or damaged
        names = _names_in_pickles(path)
    return [one_line(name)[:LONGEST_NAME] for name in names]


def _names_in_pickles(path: str | Path) -> list[str]:
    """The same for the format before torch 1.6: pickles of protocol 2 in sequence."""
    names: dict[str, None] = {}
    try:
        with Path(path).open("rb") as file:
            while True:
                for operation, argument, _ in pickletools.genops(file):
                    if operation.name == "GLOBAL":
                        names[str(argument).replace(" ", ".")] = None
    except Exception:  # the end of the file, or bytes that are not a pickle
        return [name for name in names if not OF_TENSORS.fullmatch(name)]


def _unpickling_reason(error: pickle.UnpicklingError) -> str:
    """What torch met, without its advice to load the file all the same."""
    met = str(error).rpartition("WeightsUnpickler error: ")[2]
    return _without_advice(pickle.UnpicklingError(met))


def _without_advice(error: Exception) -> str:
    """The reason, unless it advises to run what the file holds."""
    reason = reason_of(error)
    return "it is not what torch.save writes" if ADVICE.search(reason) else reason


def read_npz(
    path: str | Path, select: Callable[[list[str]], Iterable[str]]
) -> dict[str, np.ndarray]:
    """Read arrays of an ``.npz``; nothing in it is unpickled.

    Args:
        path: the file.
        select: called with the keys of the file; returns those to read.

    Raises:
        DamagedFileError: the file is missing or damaged, or an array is of objects.
    """
    check_archive(regular_file(path), checksums=False)  # numpy compares them
    with Path(path).open("rb") as stream:
        try:
            if not zipfile.is_zipfile(stream):
                raise ValueError("it is no archive of arrays, as numpy.savez writes")
            stream.seek(0)
            if stream.read(4) not in ZIP_STARTS:  # or numpy advises to unpickle it
                raise ValueError("its beginning is damaged")
            stream.seek(0)
            file = np.load(stream, allow_pickle=False)
            if not isinstance(file, NpzFile):
                raise ValueError("it holds a single array")
        except Exception as error:  # a damaged file fails wherever the reader is
            raise DamagedFileError(
                f"{path} cannot be read as an .npz of plain arrays: {reason_of(error)}"
            ) from None
        return {key: _read_array(file, key, path) for key in select(file.files)}


def _read_array(file: NpzFile, key: str, path: str | Path) -> np.ndarray:
    try:
        array = file[key]
        if not isinstance(array, np.ndarray):
            raise ValueError("it is not an array")
    except Exception as error:  # as above, and the decompressor has errors of its own
        raise DamagedFileError(
            f"{path}: {key} cannot be read as a plain array: {reason_of(error)}"
        ) from None
    return array
