"""Folders of images, one folder a class, read within bounds."""

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gradnet.core.regular_files import regular_file
from gradnet.core.text import reason_of
from gradnet.errors import DamagedFileError, GradnetError, InvalidInputError

# By content; by its name alone, PIL would hand a PostScript file to another program.
FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
MAX_PIXELS = 50_000_000
MAX_FOLDERS = 200_000


def read_image_folder(path: Path) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Images, labels and class names of a folder with one folder of images a class.

    Returns:
        uint8 ``(N, H, W, 3)``; int ``(N,)``; one name a class, sorted.

    Raises:
        DamagedFileError: there is no class folder, one has no image, a file cannot be
            read as one, or symbolic links lead in a circle.
        InvalidInputError: the images differ in size, or all together take more than the
            memory of this machine.
        GradnetError: torchvision is not installed.
    """
    from gradnet.core.torchvision import import_torchvision

    check_links(path)
    try:
        folder = import_torchvision().ImageFolder(path)
    except FileNotFoundError as error:
        raise DamagedFileError(
            f"{path} is not a folder of class folders: {reason_of(error)}"
        ) from None
    files = [file for file, _ in folder.samples]
    images: np.ndarray | None = None
    for index, file in enumerate(files):
        image = read_image(file, None if images is None else images.shape[1:3])
        if images is None:
            images = _allocate(path, len(files), image.shape)
        images[index] = image
    assert images is not None
    return images, np.asarray(folder.targets), tuple(folder.classes)


def read_image(file: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """The pixels of an image, uint8 ``(H, W, 3)``.

    Args:
        file: its path.
        shape: ``(H, W)`` that it must have; compared before any pixel is decoded.

    Raises:
        DamagedFileError: it is not a whole image, or has more than ``MAX_PIXELS``.
        InvalidInputError: it has another shape.
    """
    from PIL import Image

    try:
        # What PIL warns of is either refused here, or of no consequence for pixels.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(regular_file(file), formats=FORMATS) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise ValueError(
                        f"it has {width} x {height} pixels, more than {MAX_PIXELS:,}"
                    )
                if shape is not None and (height, width) != shape:
                    raise InvalidInputError(
                        f"{file} is {width} x {height}, the images before it "
                        f"{shape[1]} x {shape[0]}; resize them to one size"
                    )
                return np.asarray(image.convert("RGB"))
    except GradnetError:
        raise
    except Exception as error:  # a damaged file fails wherever the reader is
        reason = reason_of(error).replace(f" '{file}'", "")
        raise DamagedFileError(f"{file} is not a readable image: {reason}") from None


def check_links(path: Path) -> None:
    """Refuse a folder whose symbolic links lead through another folder twice.

    Raises:
        DamagedFileError: names both ways.
    """
    seen: dict[tuple[int, int], str] = {}
    for folder, status in _folders(str(path)):
        key = status.st_dev, status.st_ino
        if key in seen:
            raise DamagedFileError(
                f"{folder} is the same folder as {seen[key]}, through a symbolic link; "
                "remove the link"
            )
        seen[key] = folder
        if len(seen) > MAX_FOLDERS:
            raise DamagedFileError(f"{path} has more than {MAX_FOLDERS:,} folders")


def _folders(path: str) -> Iterator[tuple[str, os.stat_result]]:
    """All folders below, each before those in it."""
    waiting = [path]
    while waiting:
        folder = waiting.pop()
        try:
            yield folder, os.stat(folder)
            with os.scandir(folder) as entries:
                waiting += [entry.path for entry in entries if _is_folder(entry)]
        except OSError as error:
            raise DamagedFileError(f"{folder}: {error.strerror}") from None


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        raise DamagedFileError(f"{entry.path}: {error.strerror}") from None


def _allocate(path: Path, count: int, shape: tuple[int, ...]) -> np.ndarray:
    total = count * int(np.prod(shape))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if total > memory:
        raise InvalidInputError(
            f"{path} has {count:,} images of {shape[1]} x {shape[0]} pixels: they take "
            f"{total:,} bytes, and this machine has {memory:,}; resize them"
        )
    return np.empty((count, *shape), np.uint8)
