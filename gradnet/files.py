"""Files that are whole or absent: written to a temporary name, flushed, renamed."""

import hashlib
import json
import os
import pickle
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from gradnet.errors import GradnetError


def write_atomically(path: str | Path, write: Callable[[BinaryIO], object]) -> Path:
    """Let ``write`` fill a temporary file beside ``path``, then move it there.

    A reader sees the old file or the new one, never a half of either; a process
    killed on the way leaves ``path`` as it was.

    Args:
        path: where the file shall stand; missing folders are made.
        write: called once with the open binary file.

    Returns:
        The path, as a :class:`~pathlib.Path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def write_text(path: str | Path, text: str) -> Path:
    """Write ``text`` as UTF-8, whole or not at all."""
    return write_atomically(path, lambda file: file.write(text.encode()))


def write_json(path: str | Path, value: object) -> Path:
    """Write ``value`` as indented JSON, whole or not at all."""
    return write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        GradnetError: the file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise GradnetError(f"{path}: no such file") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise GradnetError(f"{path}: not a JSON file ({error})") from None


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_tensors(path: str | Path, state: object) -> Path:
    """Write nested tensors and plain values with ``torch.save``, whole or not at all."""
    return write_atomically(path, lambda file: torch.save(state, file))


def load_tensors(path: str | Path) -> Any:
    """Read a file of ``torch.save`` that holds tensors and plain values only.

    Raises:
        GradnetError: it is missing, damaged, or holds pickled objects, which could run
            any code when loaded.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise GradnetError(f"{path}: no such file") from None
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise GradnetError(
            f"{path} is refused: it holds pickled objects, which could run any code "
            f"when loaded, or is damaged ({reason}). Save the state dict instead: "
            "torch.save(model.state_dict(), ...)"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise GradnetError(f"{path} cannot be read as a checkpoint: {reason}") from None


class JsonLines:
    """An append-only log of records, one JSON object a line.

    A line that a kill cut short is dropped when the log is next opened, so every
    line that a reader meets is whole.

    Args:
        path: the ``.jsonl`` file; made with its folder at the first record.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        text = self.path.read_text() if self.path.exists() else ""
        if text and not text.endswith("\n"):
            write_text(self.path, text[: text.rfind("\n") + 1])

    def read(self) -> list[dict[str, Any]]:
        """All records, oldest first."""
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one record at the end."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def replace(
        self, key: Mapping[str, Any], records: Iterable[Mapping[str, Any]]
    ) -> None:
        """Make the records that match ``key`` exactly these; leave the others.

        A resumed run calls it first: what was logged after its last checkpoint
        will be logged again, and must not stand there twice.
        """
        others = [
            record
            for record in self.read()
            if any(record.get(name) != value for name, value in key.items())
        ]
        kept = [*others, *({**key, **record} for record in records)]
        if kept or self.path.exists():
            write_text(self.path, "".join(json.dumps(record) + "\n" for record in kept))
