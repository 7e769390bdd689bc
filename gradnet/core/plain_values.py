"""Plain values from files: JSON within bounds of size and depth."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradnet.core.regular_files import regular_file
from gradnet.core.text import reason_of
from gradnet.errors import DamagedFileError

# Twenty times as many bytes in memory, at the worst.
MAX_JSON_BYTES = 32_000_000
MAX_DEPTH = 200
# Of a value in which each part counts as often as it is reached.
MAX_PARTS = 50_000_000


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text that may come from anywhere.

    Raises:
        ValueError: it is no JSON, too long, nested too deeply, or holds half of a
            surrogate pair, which no stream could print; the text is one line.

    Example:
        >>> parse_json('{"steps": [1, 2]}')
        {'steps': [1, 2]}
        >>> parse_json("[" * 100_000)
        Traceback (most recent call last):
        ValueError: it is nested more than 200 deep
    """
    if len(text) > MAX_JSON_BYTES:
        raise ValueError(
            f"it has {len(text):,} bytes, more than the {MAX_JSON_BYTES:,} allowed"
        )
    try:
        value = json.loads(text)
        check_plain(value)
    except RecursionError:
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep") from None
    return value


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        DamagedFileError: the file is missing, no regular file, or not JSON.
    """
    file = regular_file(path)
    try:
        size = file.stat().st_size
        if size > MAX_JSON_BYTES:
            raise ValueError(f"{size:,} bytes are more than {MAX_JSON_BYTES:,}")
        return parse_json(file.read_bytes())
    except (OSError, ValueError) as error:
        raise DamagedFileError(
            f"{path}: not a JSON file ({reason_of(error)})"
        ) from None


def check_plain(value: object) -> None:
    """Check that a value can be walked through: no circles, no depths, no bombs.

    Parts that occur in several places count each time: fifty lists, each of which
    holds the next one twice, are small in memory and without end for what visits them.

    Args:
        value: of mappings, lists, tuples, sets and anything else.

    Raises:
        ValueError: it contains itself, is nested more than ``MAX_DEPTH`` deep, has more
            than ``MAX_PARTS`` parts, or a text that cannot be encoded.
    """
    _count_parts(value, 0, {})


def _count_parts(value: object, depth: int, known: dict[int, int]) -> int:
    if isinstance(value, str):
        value.encode()  # UnicodeEncodeError is a ValueError
        return 1
    if isinstance(value, Mapping):
        parts = [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple | set | frozenset):
        parts = list(value)
    else:
        return 1
    if depth > MAX_DEPTH:
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
    key = id(value)
    if key not in known:
        known[key] = 0
        known[key] = 1 + sum(_count_parts(part, depth + 1, known) for part in parts)
    elif not known[key]:
        raise ValueError("it contains itself")
    if known[key] > MAX_PARTS:
        raise ValueError(f"it has more than {MAX_PARTS:,} parts")
    return known[key]
