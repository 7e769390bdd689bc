"""What a pickle would import and call, read from its bytes without running them."""

import pickletools
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

# What torch.save writes for tensors, and torch reads without the power to run code.
OF_TENSORS = re.compile(
    r"collections\.OrderedDict|torch\._utils\._rebuild_\w+|torch\.storage\.\w+"
    r"|torch\.(\w*Storage|Size|device|b?float\d+|u?int\d+|bool|complex\d+)"
)
LONGEST_NAME = 80


def imported_names(path: str | Path) -> list[str]:
    """The functions and classes that loading a file of ``torch.save`` would import.

    Only the pickle's instructions are listed, none is carried out. What is found serves
    a message: a file made to deceive may hide a name.

    Args:
        path: a zip file with a ``data.pkl``, as torch writes, or pickles one after the
            other, as it wrote before 1.6; it may be damaged.

    Returns:
        Dotted names in order of appearance, each once, but for those of tensors.
    """
    names: dict[str, None] = {}
    try:
        with Path(path).open("rb") as file:
            if zipfile.is_zipfile(file):
                with zipfile.ZipFile(file) as archive:
                    for record in archive.namelist():
                        if record.endswith("data.pkl"):
                            with archive.open(record) as pickled:
                                names.update(dict.fromkeys(_names(pickled)))
            else:
                file.seek(0)
                names.update(dict.fromkeys(_names(file)))
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError):
        pass  # a damaged archive; RuntimeError is zipfile's word for an encrypted one
    return [
        (name if name.isprintable() else ascii(name))[:LONGEST_NAME]
        for name in names
        if not OF_TENSORS.fullmatch(name)
    ]


def _names(file: IO[bytes]) -> Iterator[str]:
    """The names in each pickle of a file, up to where it is none any more."""
    while True:
        try:
            yield from _names_of_one(file)
        except Exception:  # the end, or bytes that are no pickle: anything is raised
            return


def _names_of_one(file: IO[bytes]) -> Iterator[str]:
    """The names that one pickle imports.

    Newer protocols push module and name as strings, which may come from the memo.
    """
    strings: list[str] = []
    memo: dict[int, str | None] = {}
    last: str | None = None
    for operation, argument, _ in pickletools.genops(file):
        kind = operation.name
        if kind in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".")
        elif kind == "STACK_GLOBAL" and len(strings) >= 2:
            yield ".".join(strings[-2:])
        if kind in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[int(argument or 0)] = last
        elif kind == "MEMOIZE":
            memo[len(memo)] = last
        else:
            last = argument if isinstance(argument, str) else None
            if kind in ("GET", "BINGET", "LONG_BINGET"):
                last = memo.get(int(argument or 0))
            if last is not None:
                strings.append(last)
