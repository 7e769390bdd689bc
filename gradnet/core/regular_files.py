"""Whether a path leads to a regular file, found out before anything is opened."""

import os
import stat
from pathlib import Path

from gradnet.errors import DamagedFileError

MAX_NAME = 1000
KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (lambda mode: stat.S_ISCHR(mode) or stat.S_ISBLK(mode), "a device"),
)


def regular_file(path: str | Path) -> Path:
    """The path, when a regular file is there.

    To open a named pipe waits for its writer, and a device may never end; so a path
    from a user is looked at first.

    Raises:
        DamagedFileError: nothing is there, or a folder, pipe, socket or device;
            symbolic links lead in a circle, or it may not be read.

    Example:
        >>> regular_file("/dev/null")
        Traceback (most recent call last):
        gradnet.errors.DamagedFileError: /dev/null is a device; give a regular file
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise DamagedFileError(f"{path}: no such file") from None
    except OSError as error:
        name = str(path) if len(str(path)) < MAX_NAME else f"{str(path)[:80]}..."
        raise DamagedFileError(f"{name}: {error.strerror}") from None
    except ValueError as error:  # a NUL, or what the file system cannot encode
        raise DamagedFileError(f"{str(path)!a} is no path: {error}") from None
    for is_kind, name in KINDS:
        if is_kind(mode):
            raise DamagedFileError(f"{path} is {name}; give a regular file")
    if not os.access(path, os.R_OK):
        raise DamagedFileError(f"{path}: Permission denied")
    return Path(path)
