"""Zip archives (``.npz``, ``.pt``, ``.pt2``): whole, and no larger than they look."""

import zipfile
import zlib
from pathlib import Path

from gradnet.core.text import listed, reason_of
from gradnet.errors import DamagedFileError

MAX_RATIO = 100
# What a decompressed archive may have whatever its ratio.
HARMLESS_BYTES = 256_000_000


def check_archive(path: str | Path, checksums: bool = True) -> None:
    """Refuse a zip archive that grows a hundredfold when it is read, or is damaged.

    The sizes that an archive declares bound what its readers take from it, so that
    these need not be trusted but only added up. What is no archive is left to them.

    Args:
        path: of the file.
        checksums: compare those of all entries; torch writes them and never does.

    Raises:
        DamagedFileError: names both sizes, or the entry that is damaged.
    """
    try:
        archive = zipfile.ZipFile(path)
    except Exception:  # its reader says what is wrong with it
        return
    with archive:
        declared = sum(entry.file_size for entry in archive.infolist())
        size = Path(path).stat().st_size
        if declared > max(HARMLESS_BYTES, MAX_RATIO * size):
            raise DamagedFileError(
                f"{path} has {size:,} bytes and would take {declared:,} when it is "
                "read; if that is meant, write it again without compression"
            )
        if not checksums:
            return
        try:
            bad = archive.testzip()
        except (zipfile.BadZipFile, OSError, ValueError, RuntimeError) as error:
            raise DamagedFileError(f"{path} is damaged: {reason_of(error)}") from None
        except (zlib.error, EOFError) as error:
            raise DamagedFileError(f"{path} is damaged: {reason_of(error)}") from None
    if bad is not None:
        raise DamagedFileError(
            f"{path} is damaged: the checksum of {listed([bad])} differs; copy it "
            "again, or save it again with torch.serialization.set_crc32_options(True)"
        )
