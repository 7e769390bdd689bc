"""What every hostile file has to end in: one line, and nothing left behind."""

import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hostile_files import HostileFile

from gradnet.errors import GradnetError

MAX_LENGTH = 1_500
MAX_SECONDS = 5
# Advice that would run what a file holds.
BAD_ADVICE = re.compile(r"weights_only|pickle\.load|allow_pickle=True")


def faults_of(
    files: Sequence[HostileFile],
    folder: Path,
    readers: Mapping[str, Callable[[Path], object]],
) -> list[str]:
    """The name and the fault of each file that does not end as it should."""
    faults = []
    for number, file in enumerate(files):
        place = folder / str(number)
        place.mkdir()
        start = time.perf_counter()
        fault = fault_of(file, place, readers[file.kind])
        if fault is None and time.perf_counter() - start > MAX_SECONDS:
            fault = "it takes too long"
        shutil.rmtree(place)
        if fault is not None:
            faults.append(f"{file}: {fault}")
    return faults


def fault_of(
    file: HostileFile, folder: Path, read: Callable[[Path], object]
) -> str | None:
    """Read it, and say what is wrong with how that ends; None where all is well."""
    path = file.write(folder)
    before = contents(folder)
    try:
        read(path)
    except GradnetError as error:
        fault = fault_of_line(str(error))
    except Exception as error:
        fault = f"{type(error).__name__}: {error}"
    else:
        fault = None if file.may_pass else "it is accepted"
    return fault if contents(folder) == before else "the folder has changed"


def fault_of_line(text: str) -> str | None:
    """What is wrong with the line that a user reads."""
    if not text.isprintable() or not 10 < len(text) < MAX_LENGTH:
        return f"no readable line: {text[:MAX_LENGTH]!r}"
    return f"bad advice: {text}" if BAD_ADVICE.search(text) else None


def contents(folder: Path) -> dict[str, int]:
    """Name -> size of all regular files below a folder, links not followed."""
    return {
        str(path): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }
