"""Pickles of tuples within tuples, which take no room and no end of time to hash."""

import io
import pickletools
import zipfile
from pathlib import Path

from gradnet.errors import DamagedFileError

# Parts of a tuple, each as often as it is reached; those of a tensor have about ten.
MAX_TUPLE = 1_000_000
MAX_PICKLE_BYTES = 100_000_000


def check_tuples(path: str | Path) -> None:
    """Refuse a file of ``torch.save`` with a tuple that no key of a dict can be.

    A dict hashes its keys while it is unpickled, and a tuple is hashed part by part:
    forty tuples, each of the one before twice, have a trillion parts.

    Raises:
        DamagedFileError: it has such a tuple, or a pickle of more than
            ``MAX_PICKLE_BYTES``.
    """
    try:
        if zipfile.is_zipfile(path):
            _check_archive(path)
        else:  # the format before torch 1.6: five pickles in sequence
            with Path(path).open("rb") as file:
                pickles = io.BytesIO(file.read(MAX_PICKLE_BYTES))
            for _ in range(5):
                if not _check(pickles):
                    break
    except zipfile.BadZipFile:  # its reader says what is wrong with it
        return
    except _BombError:
        raise DamagedFileError(
            f"{path} is refused: it holds tuples within tuples without end, "
            "or too large a pickle"
        ) from None


class _BombError(Exception):
    """A tuple has too many parts."""


def _check_archive(path: str | Path) -> None:
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.filename.endswith("data.pkl"):
                if entry.file_size > MAX_PICKLE_BYTES:
                    raise _BombError
                _check(io.BytesIO(archive.read(entry)))


_MARK = -1
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def _check(file: io.BytesIO) -> bool:
    """Follow the stack of a pickle; of each object only the parts of tuples count.

    Returns:
        Whether it was whole, so that another may follow.
    """
    stack: list[int] = []
    memo: dict[int, int] = {}
    try:
        for operation, argument, _ in pickletools.genops(file):
            name = operation.name
            if name == "MARK":
                stack.append(_MARK)
            elif name == "MEMOIZE":
                memo[len(memo)] = stack[-1]
            elif name.endswith("PUT"):
                memo[int(str(argument))] = stack[-1]
            elif name.endswith("GET"):
                stack.append(memo.get(int(str(argument)), 1))
            elif name in _TUPLES or name == "TUPLE":
                count = _TUPLES.get(name)
                parts = _pop_to_mark(stack) if count is None else _pop(stack, count)
                stack.append(1 + sum(parts))
                if stack[-1] > MAX_TUPLE:
                    raise _BombError
            else:
                before = operation.stack_before
                if pickletools.markobject in before:
                    _pop_to_mark(stack)
                    before = before[: before.index(pickletools.markobject)]
                _pop(stack, len(before))
                stack += [1] * len(operation.stack_after)
    except (ValueError, IndexError, EOFError, MemoryError):
        return False  # its reader says what is wrong with it
    return True


def _pop(stack: list[int], count: int) -> list[int]:
    parts = stack[len(stack) - count :]
    del stack[len(stack) - count :]
    return parts


def _pop_to_mark(stack: list[int]) -> list[int]:
    parts = []
    while (part := stack.pop()) != _MARK:
        parts.append(part)
    return parts
