"""Zip archives (``.npz``, ``.pt``, ``.pt2``) that would fill the memory."""

import zipfile
from pathlib import Path

from gradnet.errors import DamagedFileError

MAX_RATIO = 100
# What a decompressed archive may have whatever its ratio.
HARMLESS_BYTES = 256_000_000


def check_expansion(path: str | Path) -> None:
    """Refuse a zip archive that says that it grows a hundredfold when it is read.

    The sizes that an archive declares bound what its readers take from it, so that
    these need not be trusted but only added up. What is no archive is left to them.

    Raises:
        DamagedFileError: names both sizes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            declared = sum(entry.file_size for entry in archive.infolist())
    except Exception:  # its reader says what is wrong with it
        return
    size = Path(path).stat().st_size
    if declared > max(HARMLESS_BYTES, MAX_RATIO * size):
        raise DamagedFileError(
            f"{path} has {size:,} bytes and would take {declared:,} when it is read; "
            "if that is meant, write it again without compression"
        )
