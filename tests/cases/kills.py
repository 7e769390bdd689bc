"""Runs that are killed: by SIGKILL at any time, or in process at every rename."""

import json
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gradnet.core import json_lines

# A file that is written again and again is killed so often at its first writes.
OCCURRENCES = 2


def run_killed(arguments: list[str], when: Callable[[], bool]) -> None:
    """Start a command and kill -9 it as soon as ``when()`` holds."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "gradnet", *arguments]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        for _ in range(3000):
            if when() or process.poll() is not None:
                break
            time.sleep(0.01)
        assert process.poll() is None, "it ended before it could be killed"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


class Killed(BaseException):
    """Stands for SIGKILL: nothing that a run does afterwards reaches the disk."""


class Kills:
    """Kills a run once at each place: around every rename, append and removal.

    An append is also cut in the middle of its line.

    Attributes:
        places: where it was killed so far.
    """

    def __init__(self) -> None:
        self.places: set[str] = set()
        self.counts: Counter[str] = Counter()
        self.is_dead = False

    def at(self, place: str) -> None:
        """Die here, unless it has died here before."""
        if self.is_dead or place not in self.places:
            self.places.add(place)
            self.is_dead = True
            raise Killed(place)

    def occurrence(self, path: object) -> str:
        name = f"{path} {min(self.counts[str(path)], OCCURRENCES)}"
        return re.sub(r"\.\d+\.part", ".part", name)

    @contextmanager
    def injected(self) -> Iterator[None]:
        """Runs in this block die at the first new place that they come to."""
        self.is_dead = False
        replace, unlink, append = os.replace, os.unlink, json_lines.append_bytes

        def dying_replace(source: Any, target: Any) -> None:
            self.at(f"before {self.occurrence(target)}")
            replace(source, target)
            self.counts[str(target)] += 1
            self.at(f"after {self.occurrence(target)}")

        def dying_unlink(path: Any, **options: Any) -> None:
            if self.is_dead:
                return
            is_there = os.path.lexists(path)
            if is_there and not str(path).endswith((".lock", ".part")):
                self.at(f"removing {self.occurrence(path)}")
            unlink(path, **options)

        def dying_append(path: Path, data: bytes) -> None:
            line = json.dumps(without_times(json.loads(data.splitlines()[0])))
            self.at(f"before {line}")
            if f"half of {line}" not in self.places and not self.is_dead:
                append(path, data[: len(data) // 2])
                self.at(f"half of {line}")
            append(path, data)
            self.at(f"after {line}")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "replace", dying_replace)
            patch.setattr(os, "unlink", dying_unlink)
            patch.setattr(json_lines, "append_bytes", dying_append)
            yield


def run_with_kills(run: Callable[[], object]) -> set[str]:
    """Run again and again, killed each time at a new place, until it comes through.

    Returns:
        The places.
    """
    kills = Kills()
    while True:
        before = len(kills.places)
        with kills.injected():
            try:
                run()
                return kills.places
            except Killed:
                assert len(kills.places) == before + 1
                assert before < 1000, "it makes no progress"


def run_with_sigkills(
    run: Callable[..., object], folder: Path, count: int, *arguments: Any
) -> list[Path]:
    """Run in processes that are killed -9 at random times.

    Args:
        run: called with a folder below ``folder`` and the arguments; again with the
            same one until it comes through, then with a new one.
        folder: of the folders.
        count: how many runs are killed at work.
        arguments: further ones.

    Returns:
        The folders, in all of which the last run came through.
    """
    context = multiprocessing.get_context("fork")
    times, longest = random.Random(0), None
    folders = [folder / "0"]
    while True:
        process = context.Process(target=run, args=(folders[-1], *arguments))
        start = time.monotonic()
        process.start()
        process.join(times.uniform(0, longest) if longest and count > 0 else None)
        process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        if process.exitcode != 0:
            count -= 1
            continue
        longest = longest or time.monotonic() - start
        if count <= 0:
            return folders
        folders.append(folder / str(len(folders)))


def without_times(value: Any) -> Any:
    """A result or a record without what differs from run to run."""
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if "second" not in k}
    return value


def outcome(folder: Path) -> dict[str, Any]:
    """All files of a run folder: their bytes, without times and pictures.

    That no file of a killed run is left is a part of it: a lock, a temporary file or a
    checkpoint would be one more.
    """
    found: dict[str, Any] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name, text = str(path.relative_to(folder)), path.read_bytes()
        if path.suffix == ".json":
            found[name] = without_times(json.loads(text))
        elif path.suffix == ".jsonl":
            records = [without_times(json.loads(line)) for line in text.splitlines()]
            found[name] = sorted(json.dumps(r, sort_keys=True) for r in records)
        elif path.suffix == ".csv":
            head, *rows = (line.split(",") for line in text.decode().splitlines())
            kept = [i for i, column in enumerate(head) if "second" not in column]
            found[name] = [[row[i] for i in kept] for row in (head, *rows)]
        elif path.suffix == ".md":
            found[name] = re.sub(
                r" \S+( ± \S+)? \(\d+\) \|| \d+ s \|", "", text.decode()
            )
        elif path.suffix in (".png", ".pt"):
            found[name] = None
        else:
            found[name] = text
    return found
