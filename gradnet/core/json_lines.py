"""A log that is only appended to: one JSON object a line."""

import json
import logging
import os
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from gradnet.core.files import remove_stale_parts, write_atomically
from gradnet.core.locks import LockedFile
from gradnet.core.plain_values import parse_json
from gradnet.core.regular_files import regular_file

logger = logging.getLogger("gradnet")

Record = dict[str, Any]


class JsonLines:
    """An append-only log of records, one JSON object a line.

    Several processes can write to it at once; each writes whole lines. An incomplete
    last line, left by a process that was killed, is not read, and dropped by the next
    that writes. A damaged line is reported with its number and left in the file; the
    other lines are read.

    Args:
        path: the ``.jsonl`` file; created with its folder at the first record.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._reported: set[bytes] = set()

    def read(self) -> list[Record]:
        """All records, oldest first.

        Raises:
            DamagedFileError: the path is no regular file.
        """
        return [record for _, record in self._lines() if record is not None]

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one record at the end.

        Raises:
            OSError: it cannot be written, for example because the disk is full.
        """
        with self._locked():
            self._append([record])

    def replace(
        self, key: Mapping[str, Any], records: Iterable[Mapping[str, Any]]
    ) -> None:
        """Replace all records that match ``key`` by these; leave the others.

        A resumed run calls it first: what was logged after its last checkpoint will be
        logged again, and must not be there twice. Where nothing matches, the records
        are appended.

        Args:
            key: fields and values that a record must have to be replaced; they are
                added to each new record.
            records: the new ones, in order.
        """
        wanted = [{**key, **record} for record in records]
        if not wanted and not self.path.exists():
            return
        with self._locked():
            lines = self._lines()
            others = [line for line, record in lines if not _matches(record, key)]
            if len(others) == len(lines):
                self._append(wanted)
                return
            text = b"".join([*others, *map(_line, wanted)])
            write_atomically(self.path, lambda file: file.write(text))

    def clean(self) -> None:
        """Remove what a killed process left beside the log and at its end."""
        if self.path.parent.is_dir():
            with self._locked():
                remove_stale_parts(self.path.parent, self.path.name)
                self._append([])

    def _locked(self) -> AbstractContextManager[object]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return LockedFile(self.path.with_name(f"{self.path.name}.lock"), wait=True)

    def _append(self, records: Iterable[Mapping[str, Any]]) -> None:
        self._drop_half_line()
        text = b"".join(map(_line, records))
        if not text:
            return
        try:
            append_bytes(self.path, text)
        except OSError as error:
            if error.errno is None:
                raise
            raise OSError(error.errno, error.strerror, str(self.path)) from None

    def _drop_half_line(self) -> None:
        if not self.path.exists():
            return
        with self.path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
                if file.read() != b"\n":
                    file.seek(0)
                    file.truncate(file.read().rfind(b"\n") + 1)

    def _lines(self) -> list[tuple[bytes, Record | None]]:
        """The complete lines with their records; None for a damaged one."""
        if not self.path.exists():
            return []
        whole = regular_file(self.path).read_bytes().split(b"\n")[:-1]
        found = []
        for number, line in enumerate(whole, start=1):
            try:
                record = parse_json(line)
                if not isinstance(record, dict):
                    raise ValueError("no JSON object")
            except ValueError as error:
                record = None
                self._report(number, line, error)
            found.append((line + b"\n", record))
        return found

    def _report(self, number: int, line: bytes, error: Exception) -> None:
        if line not in self._reported:
            self._reported.add(line)
            logger.warning(
                "%s, line %d is damaged and left out (%s)", self.path, number, error
            )


def append_bytes(path: Path, data: bytes) -> None:
    """Add bytes at the end of a file, which is created where it is missing."""
    with path.open("ab", buffering=0) as file:
        written = file.write(data)
        while written < len(data):  # what a nearly full disk took of it
            written += file.write(data[written:])


def _line(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record).encode() + b"\n"


def _matches(record: Record | None, key: Mapping[str, Any]) -> bool:
    return record is not None and all(record.get(k) == v for k, v in key.items())
